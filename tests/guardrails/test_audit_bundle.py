"""An auditor checks the log with one file and without us; whatever was done to the bundle is named."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID
from zipfile import ZipFile

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from service.core.database import Database
from service.core.settings import Settings
from service.guardrails import audit
from service.guardrails.audit import bundle, verifier
from service.guardrails.audit.seal import MEMBER, merkle_root
from tests.guardrails.audit_at_work import as_attacker

pytest_plugins = ("tests.guardrails.durability", "tests.guardrails.sealed_log")

Contents = dict[str, bytes]
Spoil = Callable[[Contents], tuple[str, str]]


def lines(contents: Contents, name: str = "rows.jsonl") -> list[dict[str, object]]:
    return [json.loads(line) for line in contents[name].splitlines()]


def put(contents: Contents, found: list[dict[str, object]], name: str = "rows.jsonl") -> None:
    contents[name] = b"".join(json.dumps(line).encode() + b"\n" for line in found)


def identifier(line: dict[str, object]) -> str:
    return str(json.loads(str(line["row"]))["id"])


def change(contents: Contents) -> tuple[str, str]:
    found = lines(contents)
    found[1]["row"] = str(found[1]["row"]).replace('"outcome":"done"', '"outcome":"denied"')
    put(contents, found)
    return "changed", identifier(found[1])


def delete(contents: Contents) -> tuple[str, str]:
    found = lines(contents)
    found.pop(1)
    put(contents, found)
    return "missing", "of segment"


def insert(contents: Contents) -> tuple[str, str]:
    found = lines(contents)
    found.insert(1, found[1] | {"index": 500})
    put(contents, found)
    return "inserted", identifier(found[1])


def swap(contents: Contents) -> tuple[str, str]:
    found = lines(contents)
    found[1], found[2] = found[2], found[1]
    put(contents, found)
    return "reordered", identifier(found[2])


def cut_the_tail(contents: Contents) -> tuple[str, str]:
    segments = lines(contents, "segments.jsonl")
    last = segments.pop()
    put(contents, segments, "segments.jsonl")
    put(contents, [line for line in lines(contents) if line["segment"] != last["number"]])
    return "truncated", f"segments end at {segments[-1]['number']}"


def drop_a_segment(contents: Contents) -> tuple[str, str]:
    segments = lines(contents, "segments.jsonl")
    gone = segments.pop(1)["number"]
    put(contents, segments, "segments.jsonl")
    put(contents, [line for line in lines(contents) if line["segment"] != gone])
    return "missing segment", f"segments {gone} to {gone}"


def forge_a_seal(contents: Contents) -> tuple[str, str]:
    segments = lines(contents, "segments.jsonl")
    segments[1]["seal"] = "00" * 32
    put(contents, segments, "segments.jsonl")
    return "altered", "does not follow"


def forge_a_root(contents: Contents) -> tuple[str, str]:
    segments, number = lines(contents, "segments.jsonl"), lines(contents)[0]["segment"]
    [one] = [segment for segment in segments if segment["number"] == number]
    one["root"] = "00" * 32
    put(contents, segments, "segments.jsonl")
    return ("altered", "its root does not fit") if "members" in one else ("changed", "is not what was sealed")


def whitewash(contents: Contents) -> tuple[str, str]:
    """Whoever changes a row and then the list of hashes cannot sign that list."""
    change(contents)
    manifest = json.loads(contents["manifest.json"])
    manifest["files"]["rows.jsonl"] = hashlib.sha256(contents["rows.jsonl"]).hexdigest()
    contents["manifest.json"] = json.dumps(manifest).encode()
    return "unsigned", "manifest.json"


SPOILS: list[Spoil] = [
    change,
    delete,
    insert,
    swap,
    cut_the_tail,
    drop_a_segment,
    forge_a_seal,
    forge_a_root,
    whitewash,
]


def run(file: Path, key: str, *more: str) -> subprocess.CompletedProcess[str]:
    """As the auditor does: the program alone, in a Python that sees nothing of ours."""
    program = file.parent / "verify.py"
    program.write_bytes(ZipFile(file).read("verify.py"))
    command = [sys.executable, "-I", "-S", str(program), str(file), "--key", key, *more]
    return subprocess.run(command, capture_output=True, text=True, cwd=file.parent, check=False)


@pytest.fixture(params=["everybody", "one organization"])
async def exported(
    request: pytest.FixtureRequest,
    sealed: tuple[list[UUID], Path],
    own_maintenance: Database,
    own_settings: Settings,
    own_superuser: asyncpg.Connection[object],
    tmp_path: Path,
) -> tuple[Path, str]:
    """A bundle and the public key."""
    organization = None
    if request.param != "everybody":
        organization = await own_superuser.fetchval("SELECT organization_id FROM audit_log WHERE id = $1", sealed[0][4])
    report = await audit.verify(own_maintenance, own_settings)
    file = tmp_path / "audit.zip"
    rows = await bundle.export(own_maintenance, own_settings, file, report, organization)
    assert rows == (3 if organization else 9)
    return file, bundle.public_key(own_settings)


async def test_an_untouched_bundle_is_found_whole(exported: tuple[Path, str], sealed: tuple[list[UUID], Path]) -> None:
    file, key = exported
    done = run(file, key, "--anchors", str(sealed[1]))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "no problems" in done.stdout
    text = ZipFile(file).read("rows.jsonl").decode()
    assert [str(row) in text for row in sealed[0]].count(True) == text.count("\n")
    assert "python verify.py" in ZipFile(file).read("README.txt").decode()
    assert run(file, "ab" * 32).returncode == 1, "another key did not sign it"
    assert run(file, "no key").returncode == 2
    with ZipFile(file.parent / "nothing.zip", "w") as empty:
        empty.writestr("verify.py", bundle.VERIFIER)
    assert run(file.parent / "nothing.zip", key).returncode == 2


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
async def test_what_was_done_to_a_bundle_is_named(exported: tuple[Path, str], spoil: Spoil) -> None:
    file, key = exported
    with ZipFile(file) as whole:
        contents = {name: whole.read(name) for name in whole.namelist()}
    kind, what = spoil(contents)
    with ZipFile(file, "w") as spoilt:
        for name, content in contents.items():
            spoilt.writestr(name, content)
    done = run(file, key)
    assert done.returncode == 1
    assert any(line.startswith(f"{kind}: ") and what in line for line in done.stdout.splitlines()), done.stdout


async def test_what_was_done_in_the_database_is_named_in_the_bundle_too(
    sealed: tuple[list[UUID], Path],
    own_maintenance: Database,
    own_settings: Settings,
    own_superuser: asyncpg.Connection[object],
    tmp_path: Path,
) -> None:
    """A changed row and a deleted one, before the export."""
    ids = sealed[0]
    await as_attacker(
        own_superuser,
        f"UPDATE audit_log SET outcome = 'denied' WHERE id = '{ids[4]}'",
        f"DELETE FROM audit_log WHERE id = '{ids[7]}'",
    )
    report = await audit.verify(own_maintenance, own_settings)
    file = tmp_path / "audit.zip"
    await bundle.export(own_maintenance, own_settings, file, report)
    said = run(file, bundle.public_key(own_settings)).stdout
    assert f"changed: row {ids[4]} is not what was sealed" in said
    assert f"missing: row {ids[7].hex} of segment 3" in said


async def test_the_anchors_show_that_the_whole_end_was_cut_off_before_the_export(
    sealed: tuple[list[UUID], Path],
    own_maintenance: Database,
    own_settings: Settings,
    own_superuser: asyncpg.Connection[object],
    tmp_path: Path,
) -> None:
    await as_attacker(
        own_superuser,
        f"DELETE FROM audit_log WHERE id IN ('{sealed[0][-1]}', '{sealed[0][-2]}', '{sealed[0][-3]}')",
        "DELETE FROM audit_segments WHERE number = 3",
    )
    report = await audit.verify(own_maintenance, own_settings)
    file, key = tmp_path / "audit.zip", bundle.public_key(own_settings)
    await bundle.export(own_maintenance, own_settings, file, report)
    assert run(file, key).returncode == 0, "it bites: without them nobody can know"
    done = run(file, key, "--anchors", str(sealed[1]))
    assert done.returncode == 1
    assert "truncated: the anchors know segment 3" in done.stdout


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13, 100])
def test_the_verifier_hashes_as_the_sealer_does(count: int) -> None:
    members = b"".join(bytes([n]) * MEMBER.size for n in range(count))
    one_by_one = [members[at : at + MEMBER.size] for at in range(0, len(members), MEMBER.size)]
    assert verifier.merkle_root(one_by_one) == merkle_root(members)
    levels = bundle._levels(members)
    for index, leaf in enumerate(one_by_one):
        assert verifier.climb(leaf, bundle._path(levels, index)) == merkle_root(members)
        assert count == 1 or verifier.climb(leaf[::-1] + b"x", bundle._path(levels, index)) != merkle_root(members)


def test_the_verifiers_own_signature_check_is_right() -> None:
    """RFC 8032 section 7.1, test 2; and against the library, with every bit that matters turned."""
    key = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert verifier.is_signed(key, b"\x72", signature)
    for seed in range(3):
        private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        public, signed = private.public_key().public_bytes_raw(), private.sign(b"message")
        assert verifier.is_signed(public, b"message", signed)
        assert not verifier.is_signed(public, b"massage", signed)
        for at in (0, 31, 32, 63):
            assert not verifier.is_signed(public, b"message", signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :])
        assert not verifier.is_signed(public[::-1], b"message", signed)
        s = int.from_bytes(signed[32:], "little") + verifier.Q
        assert not verifier.is_signed(public, b"message", signed[:32] + s.to_bytes(32, "little")), "malleable"
