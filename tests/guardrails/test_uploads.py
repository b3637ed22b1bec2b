"""What strangers send: the harmless passes, every attack fails, and without the guard rail it would succeed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from service.core.errors import UnsupportedMedia
from service.features.files.flows import inspection
from service.features.files.flows.inspection import DECODER, InspectionFailed, Verdict, inspect
from service.features.files.flows.names import display_name
from service.features.files.models import KINDS
from service.features.files.schemas import SENTENCES
from service.guardrails.uploads.policy import UploadPolicy
from tests.guardrails.hostile_files import CANARY, HARMLESS, HOSTILE, NAMES, PHP, Case, office, pdf, picture

EVERYTHING = UploadPolicy("test", KINDS, most_bytes=1_000_000)


async def look(folder: Path, extension: str, content: bytes) -> tuple[Verdict, bytes]:
    source, target = folder / "in", folder / "out"
    source.write_bytes(content)
    return await inspect(source, extension, target), target.read_bytes() if target.exists() else b""


def test_every_kind_has_a_harmless_example() -> None:
    assert {KINDS[extension] for extension in HARMLESS} == set(KINDS.values())


@pytest.mark.parametrize("extension", HARMLESS)
async def test_a_harmless_file_passes(extension: str, tmp_path: Path) -> None:
    EVERYTHING.check_beginning(extension, HARMLESS[extension])
    verdict, out = await look(tmp_path, extension, HARMLESS[extension])
    assert verdict == Verdict(rewritten=extension in ("png", "jpeg", "gif", "webp"))
    if verdict.rewritten:
        assert Image.open(io.BytesIO(out)).size == (40, 30)


@pytest.mark.parametrize("case", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_file_is_refused_or_comes_out_clean(case: Case, tmp_path: Path) -> None:
    content = case.make()
    verdict, out = await look(tmp_path, case.extension, content)
    assert verdict.refused == case.refused
    assert not case.refused or case.refused in SENTENCES
    if not case.refused:
        assert Image.open(io.BytesIO(out)).size == (40, 30)
        for attack in (PHP, CANARY, b"<script>", b"PK\x03\x04"):
            assert attack not in out
        assert any(attack in content for attack in (PHP, CANARY, b"<script>", b"PK\x03\x04")), "nothing was attacked"


async def test_what_a_pdf_could_run_is_flagged(tmp_path: Path) -> None:
    packed = b"\nstream\n" + zlib.compress(b"7 0 <</S/JavaScript/JS(x)>>" * 99) + b"\nendstream"
    tricks = (b"/OpenAction 2 0 R", b"/#4aS (x)", b"/Names <</EmbeddedFiles 3 0 R>>", b"/#4caunch", packed)
    for trick in tricks:
        verdict, _ = await look(tmp_path, "pdf", pdf(trick))
        assert verdict == Verdict(active=True), trick
    letters = b"\nstream\n" + zlib.compress(b"/JSX /AAB /Launcher") + b"\nendstream /AAx"
    assert (await look(tmp_path, "pdf", pdf(letters)))[0] == Verdict()


@pytest.mark.parametrize(("given", "shown"), NAMES.items(), ids=[repr(name)[:30] for name in NAMES])
def test_a_name_is_made_harmless(given: str, shown: str) -> None:
    assert display_name(given) == shown


@pytest.mark.parametrize(
    "name", ["x.exe", "page.html", "drawing.svg", "archive.zip", "noextension", "codgpj.exe", "x.docm"]
)
def test_only_listed_kinds_are_taken(name: str) -> None:
    with pytest.raises(UnsupportedMedia, match="not taken"):
        EVERYTHING.kind_of(name)


def test_the_first_bytes_must_be_those_of_the_kind() -> None:
    for extension, content in (("png", b"<svg"), ("pdf", b"MZ"), ("csv", b"a\0b"), ("xlsx", b"%PDF-")):
        with pytest.raises(UnsupportedMedia, match="content is not that"):
            EVERYTHING.check_beginning(extension, content)


async def test_a_decoder_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = await inspect(tmp_path / "in", "png", tmp_path / "out", deadline=0.01)
    assert verdict == Verdict("limits")


async def test_a_decoder_that_cannot_run_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (broken := tmp_path / "decoder.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(inspection, "DECODER", broken)
    with pytest.raises(InspectionFailed):
        await look(tmp_path, "png", picture())


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
async def test_a_full_disk_says_nothing_about_a_picture(kind: str, tmp_path: Path) -> None:
    """It was called damaged, and thrown away."""
    (source := tmp_path / "in").write_bytes(HARMLESS[kind])
    with pytest.raises(InspectionFailed):
        await inspect(source, kind, Path("/dev/full"))


PROBE = """
import json, socket, sys
sys.path.insert(0, sys.argv[1])
import decoder
decoder.prepare()
{confine}
found = {{}}
for what, act in {{
    "network": lambda: socket.socket().close(),
    "files": lambda: open("/etc/passwd").close(),
    "memory": lambda: len(bytearray(700_000_000)) and None,
}}.items():
    try:
        act()
        found[what] = "done"
    except (OSError, MemoryError) as error:
        found[what] = "refused"
print(json.dumps(found))
"""


@pytest.mark.parametrize("confined", [True, False], ids=["confined", "bites"])
def test_whoever_takes_over_the_decoder_reaches_nothing(confined: bool) -> None:
    """Without `confine` the same code gets a socket, a file and the memory."""
    script = PROBE.format(confine="decoder.confine()" if confined else "")
    done = subprocess.run(
        [sys.executable, "-c", script, str(DECODER.parent)], capture_output=True, text=True, check=True
    )
    assert set(json.loads(done.stdout).values()) == {"refused" if confined else "done"}


def test_an_ordinary_decoder_takes_what_ours_refuses() -> None:
    """The attacks are real: a plain Pillow keeps the program and the place, a plain zipfile unpacks the bomb."""
    saved = io.BytesIO()
    photo = Image.open(io.BytesIO(picture("JPEG", comment=PHP)))
    photo.save(saved, "JPEG", comment=photo.info["comment"])
    assert PHP in saved.getvalue()
    import zipfile

    bomb = office({"xl/bomb.bin": bytes(6_000_000)})
    assert len(bomb) < 20_000
    assert len(zipfile.ZipFile(io.BytesIO(bomb)).read("xl/bomb.bin")) == 6_000_000
