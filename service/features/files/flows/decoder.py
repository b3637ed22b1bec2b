"""Runs alone, in a process of its own: looks into one hostile file and says what it is. Nothing of ours is imported.

    python -I decoder.py EXTENSION INPUT OUTPUT     prints one line of JSON: {"refused": ...} or {"type": ..., ...}

Everything it needs is loaded and opened first; then it gives up the right to open anything more, sockets included
(RLIMIT_NOFILE 0), so that whoever takes over a decoder in here finds no network and no other file.
"""

from __future__ import annotations

import codecs
import csv
import errno
import io
import json
import re
import resource
import stat
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO
from xml.parsers import expat

MEMORY, CPU_SECONDS, MOST_OUTPUT = 512 * 1024 * 1024, 5, 64 * 1024 * 1024
MOST_PIXELS = 40_000_000
MOST_ENTRIES, MOST_INFLATED, MOST_RATIO = 2_000, 100 * 1024 * 1024, 100
END_RECORD = 22
RATIO_FLOOR = 1024 * 1024
"""Smaller members may be as dense as they like: a page of equal cells compresses a thousand times."""
MOST_COLUMNS, LONGEST_CELL = 1_000, 128 * 1024
PILLOW = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "gif": "GIF", "webp": "WEBP"}
MAGIC = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp",
    "pdf": "application/pdf",
}  # fmt: skip
MAIN_PART = {"xlsx": "xl/workbook.xml", "docx": "word/document.xml"}
MARKUP = {"text/html", "text/xml", "image/svg+xml", "text/x-php", "text/x-shellscript", "text/javascript"}
TABLES = ("application/csv", "application/json")
# Two letters meet by chance in any large picture, so something of their kind must follow.
ACTIVE_PDF = re.compile(rb"/(?:(?:JS|AA)(?=[\s\0(<%])|(?:JavaScript|OpenAction|Launch|EmbeddedFiles?|RichMedia|XFA)\b)")
ESCAPED, LONGEST_OBJECTS = re.compile(rb"#([0-9A-Fa-f]{2})"), 4 * 1024 * 1024
NESTED = (b"PK\3\4", b"MZ", b"\x7fELF", b"\xd0\xcf\x11\xe0", b"Rar!", b"7z\xbc\xaf")
EMBEDDED = re.compile(r"/embeddings/[^/]+\.(?:xlsx|docx|pptx)$")
"""What a chart was drawn from comes along as a workbook of its own."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
BLOCK = 1024 * 1024


class Refused(Exception):
    """The word says why; sentences are the parent's business."""


def image(extension: str, file: BinaryIO, output: BinaryIO) -> dict[str, Any]:
    """Decode every pixel and write them anew: comments, positions, scripts and archives behind them stay behind."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        picture = Image.open(file, formats=[PILLOW[extension]])
        if picture.width * picture.height > MOST_PIXELS:
            raise Refused("pixels")
        if getattr(picture, "n_frames", 1) > 1:
            raise Refused("frames")
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        if PILLOW[extension] == "JPEG":
            fresh = upright.convert("L" if upright.mode == "L" else "RGB")
        else:
            fresh = upright.convert("RGBA" if "A" in upright.getbands() or "transparency" in upright.info else "RGB")
        clean = Image.frombytes(fresh.mode, fresh.size, fresh.tobytes())
        # Not into the file: an encoder does not say that a disk is full, and the picture would be called damaged.
        quality = {"quality": 90} if PILLOW[extension] in ("JPEG", "WEBP") else {}
        clean.save(written := io.BytesIO(), PILLOW[extension], **quality)
        output.write(written.getbuffer())
        output.flush()
    return {"rewritten": True}


def pdf(extension: str, file: BinaryIO, output: BinaryIO) -> dict[str, Any]:
    content = file.read()
    if b"%%EOF" not in content[-2048:] or b"startxref" not in content:
        raise Refused("truncated")
    if zipfile.is_zipfile(io.BytesIO(content)):
        raise Refused("polyglot")
    return {"active": _acts(content) or _acts_when_unpacked(content)}


def _acts(content: bytes) -> bool:
    """A name may be written in escapes (ISO 32000-1, 7.3.5)."""
    plain = ESCAPED.sub(lambda escape: bytes([int(escape[1], 16)]), content)
    return ACTIVE_PDF.search(plain) is not None


def _acts_when_unpacked(content: bytes) -> bool:
    """Most writers pack their objects (7.5.7). Encryption and rarer filters still hide them: flagged or not, a PDF is
    only ever handed out as an attachment. What unpacks to too much is flagged unread."""
    place, unpacked = 0, 0
    while (start := content.find(b"stream", place)) >= 0 and (end := content.find(b"endstream", start)) >= 0:
        place = end + len(b"endstream")
        try:
            objects = zlib.decompressobj().decompress(content[start + 6 : end].lstrip(b"\r\n"), LONGEST_OBJECTS)
        except zlib.error:
            continue
        unpacked += len(objects)
        if unpacked > MOST_INFLATED or _acts(objects):
            return True
    return False


def office(extension: str, file: BinaryIO, output: BinaryIO) -> dict[str, Any]:
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError) as error:
        raise Refused("truncated") from error
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        raise Refused("entries")
    file.seek(-END_RECORD, io.SEEK_END)
    end = file.read()
    # The record is the last thing in the file, without a comment: what stands behind it is for another reader.
    if (
        not (end.startswith(b"PK\5\6") and end.endswith(b"\0\0"))
        or min((entry.header_offset for entry in entries), default=1) != 0
    ):
        raise Refused("polyglot")
    names = [entry.filename for entry in entries]
    if len({name.lower() for name in names}) != len(names):
        raise Refused("duplicates")
    if not {"[Content_Types].xml", MAIN_PART[extension]} <= set(names):
        raise Refused("mismatch")
    inflated = 0
    for entry in entries:
        _check_entry(entry)
        inflated = _check_content(archive, entry, inflated)
    return {}


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.filename.replace("\\", "/")
    if name.startswith("/") or ".." in name.split("/") or ":" in name or entry.orig_filename != entry.filename:
        raise Refused("path")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise Refused("symlink")
    if entry.flag_bits & 0x1:
        raise Refused("encrypted")
    low = name.lower()
    if "vbaproject" in low or "activex" in low or "/macrosheets/" in low:
        raise Refused("macro")
    if "/externallinks/" in low:
        raise Refused("link")
    if low.endswith((".zip", ".jar", ".exe", ".html", ".js")) or ("/embeddings/" in low and low.endswith(".bin")):
        raise Refused("nested")


def _check_content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, inflated: int) -> int:
    """What the directory says of sizes is the attacker's word: counted while it is read."""
    is_xml, parser = entry.filename.lower().endswith((".xml", ".rels", ".vml")), _parser()
    size = 0
    with archive.open(entry) as member:
        while part := member.read(BLOCK):
            if not size and part.startswith(NESTED) and not EMBEDDED.search(entry.filename.lower()):
                raise Refused("nested")
            size += len(part)
            if inflated + size > MOST_INFLATED:
                raise Refused("inflated")
            if size > RATIO_FLOOR and size > MOST_RATIO * max(1, entry.compress_size):
                raise Refused("ratio")
            if is_xml:
                parser.Parse(part, False)
    if is_xml:
        parser.Parse(b"", True)
    return inflated + size


def _parser() -> Any:
    parser = expat.ParserCreate()

    def doctype(*_: Any) -> None:
        raise Refused("doctype")

    def element(name: str, attributes: dict[str, str]) -> None:
        kind = name.rpartition(":")[2]
        outside = kind == "Relationship" and attributes.get("TargetMode", "").lower() == "external"
        if outside and not attributes.get("Type", "").endswith("/hyperlink"):
            raise Refused("link")
        if "macroenabled" in attributes.get("ContentType", "").lower():
            raise Refused("macro")

    parser.StartDoctypeDeclHandler, parser.StartElementHandler = doctype, element
    return parser


def text(extension: str, file: BinaryIO, output: BinaryIO) -> dict[str, Any]:
    """UTF-8 without NUL; a table has at most so many columns, counted as its reader will."""
    lines = _lines(file)
    if extension == "txt":
        for _ in lines:
            pass
        return {}
    csv.field_size_limit(LONGEST_CELL)
    for row in csv.reader(lines):
        if len(row) > MOST_COLUMNS:
            raise Refused("columns")
    return {}


def _lines(file: BinaryIO) -> Iterator[str]:
    decoder, rest = codecs.getincrementaldecoder("utf-8-sig")(), ""
    while True:
        block = file.read(BLOCK)
        if b"\0" in block:
            raise Refused("nul")
        *whole, rest = (rest + decoder.decode(block, not block)).split("\n")
        yield from (f"{line}\n" for line in whole)
        if len(rest) > 4 * BLOCK:
            raise Refused("line")
        if not block:
            yield from [rest] if rest else []
            return


READERS: dict[str, Callable[[str, BinaryIO, BinaryIO], dict[str, Any]]] = {
    **dict.fromkeys(PILLOW, image), "pdf": pdf, "xlsx": office, "docx": office, "csv": text, "txt": text,
}  # fmt: skip


def look(extension: str, file: BinaryIO, output: BinaryIO, recognize: Callable[[bytes], str]) -> dict[str, Any]:
    seen = recognize(file.read(64 * 1024))
    file.seek(0)
    if extension in MAGIC and seen != MAGIC[extension]:
        raise Refused("mismatch")
    if extension in MAIN_PART and not (seen == "application/zip" or "openxmlformats" in seen or "octet-stream" in seen):
        raise Refused("mismatch")
    if READERS[extension] is text and (seen in MARKUP or not (seen.startswith("text/") or seen in TABLES)):
        raise Refused("mismatch")
    return READERS[extension](extension, file, output)


def prepare() -> Callable[[bytes], str]:
    """Load what will be needed, while files may still be opened."""
    import pylibmagic  # noqa: F401 - points the next import at the library in its wheel

    # isort: split
    import magic
    from PIL import Image, ImageOps  # noqa: F401

    Image.preinit()
    Image.init()
    for encoding in ("utf-8-sig", "cp437"):
        codecs.lookup(encoding)
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    recognizer = magic.Magic(mime=True)
    for picture in ("PNG", "JPEG", "GIF", "WEBP"):
        Image.new("RGB", (2, 2)).save(scratch := io.BytesIO(), picture)
        Image.open(io.BytesIO(scratch.getvalue())).load()
    return lambda beginning: str(recognizer.from_buffer(beginning))


def confine() -> None:
    for what, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, MOST_OUTPUT),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(what, (most, most))


def main(extension: str, source: str, target: str) -> None:
    recognize = prepare()
    with open(source, "rb") as file, open(target, "wb") as output:
        confine()
        try:
            found = look(extension, file, output, recognize)
        except Refused as error:
            found = {"refused": str(error)}
        except MemoryError:
            found = {"refused": "memory"}
        except Exception as error:  # whatever a decoder raises says that the file is none of its kind
            if getattr(error, "errno", None) in NO_ROOM:
                raise
            bomb = type(error).__name__.startswith("DecompressionBomb")
            found = {"refused": "pixels" if bomb else "unreadable"}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
