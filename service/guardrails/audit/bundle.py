"""The log as a bundle for an auditor, who checks it with one small program and without our database.

A zip of rows, segments and a manifest. The manifest is signed with Ed25519 (RFC 8032), so that an outsider who knows
the public key needs no secret of ours: our own seals are HMACs, which only their maker can check. Of one organization
the bundle holds its rows with their way up to each segment's root, and no word about anybody else's.

Limits: whoever holds the seal key can sign anything. That rows were not rewritten before the export is what the anchors
prove (`audit.sealed` lines, kept by another system); that an organization's bundle leaves out none of its rows is our
word, because positions of a segment that are somebody else's look like those that were left out.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import IO, Any
from uuid import UUID
from zipfile import ZIP_DEFLATED, ZipFile

import asyncpg
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from service.core import clock
from service.core.crypto import derive_key
from service.core.database import Database
from service.core.ids import moment_of
from service.core.settings import Settings
from service.guardrails.audit import verifier
from service.guardrails.audit.log import COLUMNS, canonical, kept_since
from service.guardrails.audit.seal import MEMBER
from service.guardrails.audit.verify import NEXT, ROWS, Report

FORMAT = 1
VERIFIER = Path(verifier.__file__).read_text()
README = """An audit log, as rows.jsonl (one row each, oldest first) and segments.jsonl (one sealed stretch each).

To check it: python verify.py THIS-FILE.zip --key THE-PUBLIC-KEY
Take verify.py from the published source and the key from the operator, by another way than this bundle.

What is checked: manifest.json is signed (Ed25519); both files have the SHA-256 that it names; every segment names the
seal of the one before; every row's text has the SHA-256 that was sealed; every sealed row is there, once, in its place,
unless it is older than "kept_since" in the manifest: such rows are deleted, and only their seals remain.
With --anchors (a log with audit.sealed lines, kept by another system) also that the seals are the ones of that day.

"row" is the row as it was hashed: canonical JSON, keys sorted, UTF-8. Each leaf of a segment's tree (RFC 6962) is the
row's id (16 bytes), the number of its transaction (8, big-endian) and that hash (32).
"""


class Hashed:
    """Counts the SHA-256 of what is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, sha256()

    def line(self, value: dict[str, Any]) -> None:
        line = orjson.dumps(value, default=str) + b"\n"
        self._file.write(line)
        self.digest.update(line)


def signing_key(settings: Settings) -> Ed25519PrivateKey:
    root = settings.audit_seal_key.get_secret_value()
    return Ed25519PrivateKey.from_private_bytes(derive_key(root, "audit-export"))


def public_key(settings: Settings) -> str:
    """For auditors, in hex; give it to them by another way than the bundle."""
    return signing_key(settings).public_key().public_bytes_raw().hex()


async def export(
    maintenance: Database, settings: Settings, file: Path, report: Report, organization: UUID | None = None
) -> int:
    """Write what is sealed, of all or of one organization, with the problems that `report` found; how many rows.

    One segment is in memory at a time.
    """
    rows, number, since = 0, 0, kept_since(settings)
    last: dict[str, Any] = {"sealed_at": None, "seal": b""}
    with ZipFile(file, "w", ZIP_DEFLATED) as zipped, tempfile.TemporaryFile() as aside:
        segments = Hashed(aside)
        with zipped.open("rows.jsonl", "w", force_zip64=True) as out:
            written = Hashed(out)
            while True:
                async with maintenance.unit_of_work(read_only=True) as work:
                    if (segment := await work.raw.fetchrow(NEXT, number)) is None:
                        break
                    found = await _rows(work.raw, segment)
                    positions = []
                    for line, row in _lines(segment, found, organization):
                        written.line(line)
                        positions.append(row)
                    expected = positions if organization else _expected(segment, positions, since)
                    segments.line(_segment(segment, expected, whole=organization is None))
                number, rows, last = segment["number"], rows + len(positions), dict(segment)
        aside.seek(0)
        with zipped.open("segments.jsonl", "w", force_zip64=True) as out:
            while part := aside.read(1_048_576):
                out.write(part)
        manifest = _manifest(report, organization, rows, number, since, last["sealed_at"], written, segments)
        zipped.writestr("manifest.json", manifest)
        zipped.writestr("manifest.sig", signing_key(settings).sign(manifest).hex())
        zipped.writestr("README.txt", README)
        zipped.writestr("verify.py", VERIFIER)
    return rows


async def _rows(raw: asyncpg.Connection[Any], segment: asyncpg.Record) -> dict[UUID, asyncpg.Record]:
    """What the segment sealed, by id; what was slipped in or moved out of place is for the report to name."""
    ids = [UUID(bytes=identifier) for identifier, _, _ in MEMBER.iter_unpack(segment["members"])]
    found = await raw.fetch(BY_IDS, ids)
    return {row["id"]: row for row in found}


BY_IDS = ROWS.partition("WHERE")[0] + "WHERE id = ANY($1)"


def _lines(
    segment: asyncpg.Record, found: dict[UUID, asyncpg.Record], organization: UUID | None
) -> Iterator[tuple[dict[str, Any], int]]:
    members = segment["members"]
    levels = _levels(members) if organization else []
    for index, (identifier, _, _) in enumerate(MEMBER.iter_unpack(members)):
        row = found.get(UUID(bytes=identifier))
        if row is None or (organization is not None and row["organization_id"] != organization):
            continue
        text = canonical({name: row[name] for name in COLUMNS}).decode()
        line = {"segment": segment["number"], "index": index, "txid": row["txid"], "row": text}
        yield line | ({"path": _path(levels, index)} if organization else {}), index


def _expected(segment: asyncpg.Record, positions: list[int], since: datetime) -> list[int]:
    """A missing row keeps its position, so that it is named; not one whose time is over."""
    members, there = MEMBER.iter_unpack(segment["members"]), set(positions)
    return [at for at, (one, _, _) in enumerate(members) if at in there or moment_of(UUID(bytes=one)) >= since]


def _segment(segment: asyncpg.Record, positions: list[int], *, whole: bool) -> dict[str, Any]:
    told = {name: segment[name] for name in ("number", "sealed_at", "cluster", "last_txid", "last_id", "row_count")}
    told |= {name: segment[name].hex() for name in ("root", "previous_seal", "seal")}
    return told | {"positions": positions} | ({"members": segment["members"].hex()} if whole else {})


def _manifest(
    report: Report,
    organization: UUID | None,
    rows: int,
    number: int,
    since: datetime,
    until: datetime | None,
    *files: Hashed,
) -> bytes:
    told = {
        "format": FORMAT,
        "made_at": clock.now().isoformat(),
        "organization": str(organization) if organization else None,
        "rows": rows,
        "last_segment": number,
        "kept_since": since.isoformat(),
        "sealed_until": until.isoformat() if until else None,
        "files": dict(zip(("rows.jsonl", "segments.jsonl"), (file.digest.hexdigest() for file in files), strict=True)),
        "problems": report.problems,
    }
    return json.dumps(told, indent=1).encode()


def _levels(members: bytes) -> list[list[bytes]]:
    """Every level of the tree, leaves first."""
    size = MEMBER.size
    levels = [[sha256(b"\0" + members[at : at + size]).digest() for at in range(0, len(members), size)]]
    while len(level := levels[-1]) > 1:
        pairs = [sha256(b"\1" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
        levels.append(pairs + level[len(pairs) * 2 :])
    return levels


def _path(levels: list[list[bytes]], index: int) -> list[str]:
    """The neighbours on the way up, each with its side; who has none is carried up as it is."""
    path = []
    for level in levels[:-1]:
        other = index ^ 1
        if other < len(level):
            path.append(("L" if other < index else "R") + level[other].hex())
        index //= 2
    return path
