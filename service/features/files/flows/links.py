"""Out of the store: a short-lived address, and the bytes behind it, always as an attachment."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import quote

import orjson
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from service.core import clock
from service.core.context import Resources
from service.core.crypto import BadSignature, sign, unsign
from service.core.errors import NotFound, Unavailable
from service.features.files.schemas import FileLink
from service.integrations.storage import SMALL_PART, NotStored, Storage, StorageAway
from service.web.responses import After

LINK_SECONDS = 60
MOST_READERS, MOST_OF_ONE = 64, 8
"""In one process, and of one organization. Who reads a byte a minute keeps a place for a quarter of an hour
(guardrails.browser), and must find no more than these to keep."""
readers: Counter[str] = Counter()
HARMLESS = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-store",
}
"""Whatever the bytes are, a browser that opens them runs nothing, and nothing on the way keeps them."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a link of ours leads to."""

    key: str
    name: str
    size: int


def make_link(resources: Resources, key: str, name: str, size: int) -> FileLink:
    """After the permission was checked: a short while for whoever has the link, to this one object only."""
    until = clock.now() + timedelta(seconds=LINK_SECONDS)
    url = resources.get(Storage).presign(key, seconds=LINK_SECONDS, disposition=disposition(name))
    if url is None:
        token = sign("download", orjson.dumps([key, name, size, until.timestamp()]))
        url = f"{resources.settings.base_url.rstrip('/')}/downloads/{token}"
    return FileLink(url=url, expires_at=until)


def read_link(token: str) -> Link:
    """Raises NotFound for one that is not ours, or too old."""
    try:
        key, name, size, until = orjson.loads(unsign("download", token))
    except BadSignature as error:
        raise NotFound("There is no such download.", mend="Open the file's page and download it again.") from error
    if datetime.fromtimestamp(until, UTC) <= clock.now():
        raise NotFound("This link has expired.", mend="Open the file's page and download it again.")
    return Link(key, name, size)


@contextmanager
def reader_of(link: Link) -> Iterator[None]:
    """One of so many; around everything, from before the first byte is fetched. Raises Unavailable."""
    organization = link.key.split("/")[1]
    if readers.total() >= MOST_READERS or readers[organization] >= MOST_OF_ONE:
        raise Unavailable("Too many files are being downloaded at the moment.", retry_after=10)
    readers[organization] += 1
    try:
        yield
    finally:
        readers[organization] -= 1
        if not readers[organization]:
            del readers[organization]


async def open_link(resources: Resources, link: Link) -> AsyncIterator[bytes]:
    """The bytes, once the first of them are there; raises NotFound or Unavailable when they are not."""
    parts = resources.get(Storage).get(link.key, 0, link.size, most=SMALL_PART)
    try:
        first = await anext(parts, b"")
    except NotStored as error:
        raise NotFound("The file is gone.") from error
    except StorageAway as error:
        raise Unavailable("Files cannot be read right now.", retry_after=30) from error

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for part in parts:
            yield part

    return whole()


class HandedOut(After):
    """The bytes themselves as the answer; its reader counts until the last one was taken."""

    def __init__(self, resources: Resources, link: Link, media_type: str = "application/octet-stream") -> None:
        super().__init__(partial(_stream, resources, link, media_type))
        self._link = link

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with reader_of(self._link):
            await super().__call__(scope, receive, send)


async def _stream(resources: Resources, link: Link, media_type: str) -> Response:
    parts = await open_link(resources, link)
    headers = {"Content-Disposition": disposition(link.name), "Content-Length": str(link.size), **HARMLESS}
    return StreamingResponse(parts, media_type=media_type, headers=headers)


def disposition(name: str) -> str:
    """RFC 6266: never shown inside a page; old readers get the name in ASCII, the others as it is (RFC 8187)."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
