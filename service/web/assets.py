"""Static files, named by their content and served from memory: a browser may keep them for ever.

A new release gives a changed file a new name, so no browser or CDN mixes old scripts with new pages. The plain name
answers nothing: a template that forgot `asset()` fails in the first test and not after the second release. One name is
not ours to choose: browsers ask for /favicon.ico beside what is no page, such as the contract of the API.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

STATIC = Path(__file__).parent / "static"
PREFIX: Final = "/static"
ICON: Final = "/favicon.ico"
HASH_LENGTH = 8

TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served, and all of it is text that shrinks; any other file in the folder (licences) is not."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One encoding of one file: its bytes and the complete headers, ready to send."""

    body: bytes
    etag: bytes
    headers: list[tuple[bytes, bytes]]


class Assets:
    """An ASGI application; `url("app.css")` gives the name to link to."""

    def __init__(self, root: Path = STATIC) -> None:
        self._urls: dict[str, str] = {}
        self._plain: dict[str, Variant] = {}
        self._gzip: dict[str, Variant] = {}
        for file in sorted(root.rglob("*")):
            if file.suffix not in TYPES:
                continue
            name, body = file.relative_to(root).as_posix(), file.read_bytes()
            digest = hashlib.sha256(body).hexdigest()[:HASH_LENGTH]
            url = f"{PREFIX}/{name.removesuffix(file.suffix)}.{digest}{file.suffix}"
            self._urls[name] = url
            self._plain[url] = _variant(body, digest, file.suffix)
            # mtime=0: the same bytes on every instance behind the balancer.
            small = gzip.compress(body, compresslevel=9, mtime=0)
            self._gzip[url] = _variant(small, f"{digest}-gzip", file.suffix, (b"content-encoding", b"gzip"))
            if name == "logo.svg":
                self._plain[ICON] = _variant(body, digest, file.suffix, cache=b"public, max-age=86400")
        self.version = hashlib.sha256("\n".join(self._plain).encode()).hexdigest()[:HASH_LENGTH]
        """Changes whenever any file does."""

    def url(self, name: str) -> str:
        """The address to link to; raises LookupError for a file that is not there."""
        try:
            return self._urls[name]
        except KeyError:
            raise LookupError(f"no asset {name!r} in service/web/static; there are: {sorted(self._urls)}") from None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            refused = "Files can only be read. Ask for this address with GET or HEAD.\n"
            await PlainTextResponse(refused, 405, {"Allow": "GET, HEAD"})(scope, receive, send)
            return
        url, headers = scope["path"], dict(scope["headers"])
        found = self._gzip.get(url) if _accepts_gzip(headers.get(b"accept-encoding", b"")) else None
        variant = found or self._plain.get(url)
        if variant is None:
            missing = "There is no such file: a release changes names. Reload the page; it links to the present ones.\n"
            await PlainTextResponse(missing, 404, {"Cache-Control": "no-store"})(scope, receive, send)
            return
        known = variant.etag in headers.get(b"if-none-match", b"")
        body = b"" if known or scope["method"] == "HEAD" else variant.body
        await send({"type": "http.response.start", "status": 304 if known else 200, "headers": variant.headers})
        await send({"type": "http.response.body", "body": body})


def _variant(
    body: bytes,
    tag: str,
    suffix: str,
    *extra: tuple[bytes, bytes],
    cache: bytes = b"public, max-age=31536000, immutable",
) -> Variant:
    etag = f'"{tag}"'.encode()
    headers = [
        (b"content-type", TYPES[suffix].encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", cache),
        (b"etag", etag),
        (b"vary", b"Accept-Encoding"),
        *extra,
    ]
    return Variant(body, etag, headers)


def _accepts_gzip(accepts: bytes) -> bool:
    """RFC 9110 section 12.5.3, as far as browsers use it."""
    return any(
        part.split(b";")[0].strip() == b"gzip" and not part.replace(b" ", b"").endswith((b"q=0", b"q=0.0"))
        for part in accepts.lower().split(b",")
    )


@lru_cache(maxsize=1)
def assets() -> Assets:
    """The process's files, read once."""
    return Assets()


def mount_assets(app: Starlette) -> None:
    app.mount(PREFIX, assets(), name="static")
    app.router.routes.append(Route(ICON, assets(), name="icon"))
