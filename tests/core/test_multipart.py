"""A form whose boundary is an attack: refused for what it is, at its first part, whatever comes behind."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.types import Message

from service.core.errors import BadRequest
from service.core.multipart import MOST_FIELDS, arriving

FILE = b'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
FIELD = b'Content-Disposition: form-data; name="f%d"\r\n\r\nx\r\n'
BROWSER = b"-" * 4 + b"WebKitFormBoundary7MA4YWxkTrZu0gW"


async def read(boundary: bytes, *chunks: bytes) -> tuple[bytes, int]:
    """The file's content; and how many chunks were taken in, refused or not."""
    waiting = [*chunks, b"\r\n--" + boundary + b"--\r\n"]
    content = b""

    async def receive() -> Message:
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    kind = b"multipart/form-data; boundary=" + boundary
    request = Request({"type": "http", "headers": [(b"content-type", kind)], "state": {}}, receive)
    try:
        parts: AsyncIterator[bytes] = (await arriving(request)).parts(lambda _: None)
        async for part in parts:
            content += part
    except BadRequest as error:
        return error.detail.encode(), len(chunks) + 1 - len(waiting)
    return content, len(chunks) + 1 - len(waiting)


async def test_as_many_fields_as_may_be_and_a_file_arrive() -> None:
    fields = b"".join(b"--%s\r\n%s" % (BROWSER, FIELD % number) for number in range(MOST_FIELDS - 1))
    content = b"x" * 70_000 + b"\r\n--" + BROWSER[:-1]
    assert await read(BROWSER, fields + b"--" + BROWSER + b"\r\n" + FILE, content) == (content, 3)


@pytest.mark.parametrize(
    ("boundary", "attack"),
    [(b"b", b"\r\n--bX" * 10_000), (b"b", b"\r\n--b-X" * 9_000), (BROWSER, (b"\r\n--" + BROWSER + b"X") * 1_500)],
)
async def test_a_file_full_of_its_boundary_is_refused_at_once(boundary: bytes, attack: bytes) -> None:
    """Each took the parser through several steps: 20 ms for 64 KB, and a file may have 200 MB."""
    said, taken = await read(boundary, b"--" + boundary + b"\r\n" + FILE, *[attack] * 8)
    assert (said, taken) == (b"The form's boundary is found in its content.", 2)


async def test_spaces_without_end_are_refused_at_once() -> None:
    said, taken = await read(
        BROWSER, b"--" + BROWSER + b"\r\n" + FILE + b"x\r\n--" + BROWSER + b" ", *[b" " * 65_536] * 8
    )
    assert (said, taken) == (b"The form has spaces without end.", 1)
