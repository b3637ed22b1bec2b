"""Files that attack, made by code: none is stored, so no scanner complains about the repository."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from PIL import Image

from infra.sandbox.clamd import EICAR as EICAR

PHP = b"<?php system($_GET['c']); ?>"
CANARY = b"GPS-canary-52.5200N"
TYPES = b'<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"></Types>'
WORKBOOK = (
    b'<?xml version="1.0"?><workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"></workbook>'
)
EXTERNAL = (
    b'<?xml version="1.0"?><Relationships><Relationship Id="r1" Type="http://x/oleObject" '
    b'Target="http://evil.test/x" TargetMode="External"/></Relationships>'
)
HYPERLINK = EXTERNAL.replace(b"http://x/oleObject", b"http://x/relationships/hyperlink")
DOCTYPE = b'<?xml version="1.0"?><!DOCTYPE w [<!ENTITY x SYSTEM "file:///etc/passwd">]><w>&x;</w>'


@cache
def picture(kind: str = "PNG", size: tuple[int, int] = (40, 30), **more: object) -> bytes:
    Image.linear_gradient("L").resize(size).convert("RGB").save(out := io.BytesIO(), kind, **more)
    return out.getvalue()


@cache
def flood() -> bytes:
    first, *rest = [Image.new("L", (8, 8), shade) for shade in range(250)]
    first.save(out := io.BytesIO(), "GIF", save_all=True, append_images=rest)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes) -> bytes:
    """A header that promises so many pixels, whatever follows."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    row = zlib.compress(bytes(3 * width + 1) * min(height, 4))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", row) + chunk(b"IEND", b"")


def office(parts: Mapping[str, bytes] | None = None, *, main: str = "xl/workbook.xml") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {"[Content_Types].xml": TYPES, main: WORKBOOK, **(parts or {})}.items():
            archive.writestr(name, content)
    return out.getvalue()


def many_parts() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(2_001):
            archive.writestr(f"xl/{number}.bin", b"")
    return out.getvalue()


def linked() -> bytes:
    out = io.BytesIO(office())
    with zipfile.ZipFile(out, "a") as archive:
        link = zipfile.ZipInfo("xl/media/x.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    return out.getvalue()


def twice() -> bytes:
    content = office({"xl/a.xml": WORKBOOK, "xl/b.xml": WORKBOOK})
    return content.replace(b"xl/b.xml", b"xl/a.xml")


def understated() -> bytes:
    """The directory says a byte; inside are 8 MB."""
    content = bytearray(office({"xl/bomb.bin": bytes(8_000_000)}))
    for place in (content.find(b"xl/bomb.bin") - 8, content.rfind(b"xl/bomb.bin") - 22):
        content[place : place + 4] = struct.pack("<I", 1)
    return bytes(content)


def pdf(body: bytes = b"") -> bytes:
    return b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog " + body + b">>\nendobj\nstartxref\n9\n%%EOF\n"


@dataclass(frozen=True)
class Case:
    extension: str
    make: Callable[[], bytes]
    refused: str
    """The word of SENTENCES; "" where what comes out is clean."""


HOSTILE: dict[str, Case] = {
    "GIFAR: an archive behind a picture": Case("gif", lambda: picture("GIF") + office(), ""),
    "PHP in a JPEG's comment": Case("jpg", lambda: picture("JPEG", comment=PHP), ""),
    "where it was taken": Case("jpg", lambda: picture("JPEG", exif=b"Exif\0\0" + CANARY), ""),
    "a script behind a PNG": Case("png", lambda: picture() + b"<script>alert(1)</script>", ""),
    "pixel bomb": Case("png", lambda: png(50_000, 50_000), "pixels"),
    "text bomb": Case(
        "png", lambda: png(4, 4, chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(20_000_000)))), "unreadable"
    ),
    "frame flood": Case("gif", flood, "frames"),
    "truncated picture": Case("png", lambda: picture("PNG", (400, 400))[:600], "unreadable"),
    "truncated JPEG": Case("jpg", lambda: picture("JPEG", (400, 400))[:900], "unreadable"),
    "a PNG called JPEG": Case("jpg", picture, "mismatch"),
    "SVG called PNG": Case("png", lambda: b'<svg xmlns="http://www.w3.org/2000/svg" onload="x()"/>', "mismatch"),
    "HTML called CSV": Case("csv", lambda: b"<!DOCTYPE html><html><script>x()</script></html>", "mismatch"),
    "PHP called text": Case("txt", lambda: b"<?php\n" + PHP, "mismatch"),
    "a program called text": Case("txt", lambda: b"\x7fELF\x02\x01\x01" + bytes(64), "mismatch"),
    "NUL in a table": Case("csv", lambda: b"a,b\n" * 50_000 + b"1,\0\n", "nul"),
    "not UTF-8": Case("csv", lambda: b"name\n" + "Zoë\n".encode("latin-1") * 9, "unreadable"),
    "a million columns": Case("csv", lambda: b"," * 1_000_000 + b"\n", "columns"),
    "a line without end": Case("txt", lambda: b"x" * 5_000_000, "line"),
    "a cell without end": Case("csv", lambda: b'at,value\n"' + b"x\n" * 200_000, "unreadable"),
    "zip bomb": Case("xlsx", lambda: office({"xl/bomb.bin": bytes(6_000_000)}), "ratio"),
    "zip bomb that understates itself": Case("xlsx", understated, "unreadable"),
    "macro": Case("xlsx", lambda: office({"xl/vbaProject.bin": b"x"}), "macro"),
    "macro by type": Case(
        "docx",
        lambda: office(
            {"[Content_Types].xml": b'<Types><Override ContentType="x/ms-word.macroEnabled.main"/></Types>'},
            main="word/document.xml",
        ),
        "macro",
    ),
    "external link": Case("xlsx", lambda: office({"xl/externalLinks/externalLink1.xml": WORKBOOK}), "link"),
    "external object": Case("xlsx", lambda: office({"xl/_rels/workbook.xml.rels": EXTERNAL}), "link"),
    "DOCTYPE": Case("docx", lambda: office({"word/x.xml": DOCTYPE}, main="word/document.xml"), "doctype"),
    "DOCTYPE in UTF-16": Case(
        "docx",
        lambda: office(
            {"word/x.xml": DOCTYPE.decode().replace("?>", ' encoding="UTF-16"?>', 1).encode("utf-16")},
            main="word/document.xml",
        ),
        "doctype",
    ),
    "traversal": Case("xlsx", lambda: office({"../../etc/cron.d/x": b"x"}), "path"),
    "traversal of Windows": Case("xlsx", lambda: office({"xl\\..\\..\\x": b"x"}), "path"),
    "absolute path": Case("xlsx", lambda: office({"/etc/cron.d/x": b"x"}), "path"),
    "symlink": Case("xlsx", linked, "symlink"),
    "two parts of one name": Case("xlsx", twice, "duplicates"),
    "too many parts": Case("xlsx", many_parts, "entries"),
    "an archive inside": Case("xlsx", lambda: office({"xl/media/x.zip": office()}), "nested"),
    "an archive in the clothes of a picture": Case("xlsx", lambda: office({"xl/media/a.png": office()}), "nested"),
    "a program in the clothes of a picture": Case("xlsx", lambda: office({"xl/media/a.png": b"MZ\x90"}), "nested"),
    "an archive called workbook": Case("xlsx", lambda: office(main="readme.txt"), "mismatch"),
    "something in front of a workbook": Case("xlsx", lambda: picture("GIF") + office(), "mismatch"),
    "truncated workbook": Case("xlsx", lambda: office()[:-40], "truncated"),
    "something behind a workbook": Case("xlsx", lambda: office() + b"<script>x()</script>", "polyglot"),
    "another archive behind a workbook's end": Case("xlsx", lambda: office() + bytes(30), "polyglot"),
    "an archive behind a PDF": Case("pdf", lambda: pdf() + office(), "polyglot"),
    "half a PDF": Case("pdf", lambda: pdf()[:40], "truncated"),
}
HARMLESS: dict[str, bytes] = {
    "png": picture(),
    "jpeg": picture("JPEG"),
    "gif": picture("GIF"),
    "webp": picture("WEBP"),
    "pdf": pdf(),
    "xlsx": office({"xl/_rels/workbook.xml.rels": HYPERLINK}),
    "docx": office({"word/embeddings/Sheet1.xlsx": office()}, main="word/document.xml"),
    "csv": 'at,value\n2026-01-01T00:00:00Z,"1,5 Zoë"\n'.encode(),
    "txt": b"hello\nthere\n",
}
NAMES = {
    "report.pdf": "report.pdf",
    "../../etc/passwd.txt": "passwd.txt",
    "C:\\Users\\me\\photo.png": "photo.png",
    "shell.php.jpg": "shell_php.jpg",
    "a.php\x00.jpg": "a_php.jpg",
    "cod\u202egpj.exe": "codgpj.exe",
    "zero\u200bwidth\ufeff.csv": "zerowidth.csv",
    "Zoe\u0308.csv": "Zoë.csv",
    "two\r\nSet-Cookie: x=1.txt": "twoSet-Cookie: x=1.txt",
    " .. ": "file",
    "": "file",
    "x" * 300 + ".csv": "x" * 116 + ".csv",
}
