"""Where files live: in each region a directory, or a bucket that speaks S3; the same few verbs for all.

    await storage.put(key, parts)                    # bytes as they come; never the whole file in memory
    async for part in storage.get(key, start, end)
    await storage.delete(key)                        # with all its versions; a missing one is no error
    async for found in storage.walk("t/")            # by whole path segments, in no order
    storage.presign(key, seconds=60, name="x.pdf")   # None on a disk: then the application serves

A key comes from guardrails.residency and says in which region the object lies.

Protects from: a store that hangs (a deadline per part, a breaker), a versioned bucket that keeps what was "deleted"
(GDPR Art. 17), keys that climb out of the directory, a store or an environment that sends our files to another machine
than the region's own (`_straight`). Raises StorageAway when later may help, NotStored when the object
is not there. What `parts` raises comes out as it is, and nothing is stored.

Limits: a bucket keeps the parts of an upload that died with its process; give it a lifecycle rule
(AbortIncompleteMultipartUpload). Call it with no transaction open.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from service.core.regions import Place, bucket_address, by_region, in_region, split_key, store_address
from service.core.settings import Settings
from service.guardrails.circuit_breaker import CircuitBreaker, CircuitOpen
from service.guardrails.data_map import Kind, of_kind
from service.integrations.http import HttpClient, PeerFailed
from service.integrations.s3_signature import Signer

if TYPE_CHECKING:
    from obstore.store import ClientConfig

REACH = by_region()
PART = 4 * 1024 * 1024
SMALL_PART = 64 * 1024
"""For whoever hands bytes on: a reader who takes nothing pins one, and one more in the server's buffer."""
MULTIPART = 5 * 1024 * 1024
"""S3 takes no smaller part but the last; two at once bound what an upload holds in memory."""
AT_ONCE = 2
DEADLINE = 10.0
"""Seconds for one part or one question; a whole transfer takes as long as its other end does."""
NOWHERE = "127.0.0.1:0"
"""Where nobody can listen: port 0 is no port."""
ELSEWHERE = "the store sent us to another address, and we do not go: name the endpoint of the bucket's own region"
VERSION = re.compile(r"<(?:Version|DeleteMarker)>(.*?)</(?:Version|DeleteMarker)>", re.DOTALL)


class StorageAway(Exception):
    """The store cannot be used now; trying again later can help."""


class NotStored(Exception):
    """There is no object under this key."""


@dataclass(frozen=True, slots=True)
class Stored:
    key: str
    path: str
    size: int
    changed_at: datetime


class Storage:
    """A resource: the stores of all regions; an object's key says in which one it lies."""

    def __init__(self, settings: Settings, http: HttpClient) -> None:
        self._home = settings.home_region
        self._stores = {name: Store(settings, http, place, name) for name, place in settings.places.items()}

    async def put(self, key: str, parts: AsyncIterable[bytes]) -> int:
        """Store what comes, all or nothing; answers its size in bytes. Refused is a key that names no region, or a
        place that the data map does not know: no export, erasure or sweep would find it."""
        region, path = split_key(key)
        if region is None:
            raise ValueError("the key names no region: make it with guardrails.residency.place(ctx, path), or at_home")
        if path.partition("/")[0] not in of_kind(Kind.OBJECTS):
            raise ValueError(
                f"no place {path.partition('/')[0]!r}: declare it in guardrails/data_map/stores.py, and keep()"
            )
        return await self._of(region).put(path, parts)

    def get(self, key: str, start: int = 0, end: int | None = None, *, most: int = PART) -> AsyncGenerator[bytes]:
        store, path = self._found(key)
        return store.get(path, start, end, most=most)

    async def size(self, key: str) -> int:
        store, path = self._found(key)
        return await store.size(path)

    async def delete(self, key: str) -> None:
        store, path = self._found(key)
        await store.delete(path)

    async def walk(self, prefix: str = "", *, only: str | None = None) -> AsyncIterator[Stored]:
        """Of every region, or `only` one; `path` is what the region's own store calls it."""
        for region in (only,) if only else self._stores:
            store = self._of(region)
            async for found in store.walk(prefix):
                yield replace(found, key=in_region(region, found.path))

    def presign(self, key: str, *, seconds: int, disposition: str) -> str | None:
        store, path = self._found(key)
        return store.presign(path, seconds=seconds, disposition=disposition)

    def _found(self, key: str) -> tuple[Store, str]:
        region, path = split_key(key)
        return self._of(region or self._home), path

    def _of(self, region: str) -> Store:
        if (store := self._stores.get(region)) is None:
            raise StorageAway(f"no store is declared for region {region}")
        return store


class Store:
    """One region's."""

    def __init__(self, settings: Settings, http: HttpClient, place: Place, region: str) -> None:
        self._settings, self._region, self._http = settings, place, http
        kind, _, path = place.storage_url.partition(":")
        if kind not in ("file", "s3") or not path.strip("/"):
            raise ValueError("STORAGE_URL must look like file:/a/directory or s3://bucket/prefix")
        self._signer = None
        if kind == "s3":
            self._signer = Signer(
                place.storage_access_key.get_secret_value(),
                place.storage_secret_key.get_secret_value(),
                place.storage_region,
            )
        self._place = re.sub(r"^//+", "/" if kind == "file" else "", path)
        self._bucket, _, prefix = self._place.partition("/")
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._bucket_address = bucket_address(place)
        if kind == "s3" and not urlsplit(store_address(place)).hostname:
            raise ValueError("STORAGE_ENDPOINT must look like https://s3.example.com")
        self._breaker = CircuitBreaker(
            "storage" if region == settings.home_region else f"storage-{region}", counts=(StorageAway,)
        )

    async def put(self, key: str, parts: AsyncIterable[bytes]) -> int:
        """Store what comes, all or nothing; answers its size in bytes."""
        size = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for part in parts:
                size += len(part)
                yield part

        if not self._breaker.is_closed:
            # A small question finds out whether the store is back: an upload as slow as its sender must not be the one
            # call that all others wait for.
            with suppress(NotStored):
                await self.size(key)
        async with self._asked(None):
            await obstore.put_async(self._store, key, counted(), chunk_size=MULTIPART, max_concurrency=AT_ONCE)
        return size

    async def get(self, key: str, start: int = 0, end: int | None = None, *, most: int = PART) -> AsyncGenerator[bytes]:
        """The bytes from `start` to before `end`. Each part is a question of its own: a slow reader holds no line."""
        end = await self.size(key) if end is None else end
        while start < end:
            async with self._asked():
                part = bytes(await obstore.get_range_async(self._store, key, start=start, end=min(start + most, end)))
            if not part:
                return
            yield part
            start += len(part)

    async def size(self, key: str) -> int:
        async with self._asked():
            return (await obstore.head_async(self._store, key))["size"]

    async def delete(self, key: str) -> None:
        if self._signer is None:
            with suppress(NotStored):
                async with self._asked():
                    await obstore.delete_async(self._store, key)
            return
        async with self._asked(6 * DEADLINE):
            # Deleting in a versioned bucket only hides: each version and marker goes by its own id.
            while found := await self._versions(key):
                for version in found:
                    await self._ask("DELETE", key, versionId=version)

    async def walk(self, prefix: str = "") -> AsyncIterator[Stored]:
        stream = obstore.list(self._store, prefix or None, chunk_size=500)
        while True:
            async with self._asked():
                chunk = await anext(stream, None)
            if chunk is None:
                return
            for found in chunk:
                yield Stored(found["path"], found["path"], found["size"], found["last_modified"])

    def presign(self, key: str, *, seconds: int, disposition: str) -> str | None:
        """An address that hands out this one object for so long, always as an attachment of no type."""
        if self._signer is None:
            return None
        fixed = {
            "response-content-disposition": disposition,
            "response-content-type": "application/octet-stream",
            "response-cache-control": "private, no-store",
        }
        return self._signer.address("GET", self._object(key), fixed, seconds)

    async def _versions(self, key: str) -> list[str]:
        prefix = f"{self._prefix}{key}"
        listing = await self._ask("GET", "", versions="", prefix=prefix)
        blocks = VERSION.findall(listing)
        # A key may be the beginning of another one; sorted as they come, its own versions are first.
        return [_text(block, "VersionId") for block in blocks if unescape(_text(block, "Key")) == prefix]

    async def _ask(self, method: str, key: str, **query: str) -> str:
        assert self._signer is not None  # noqa: S101 - only buckets have versions
        address = self._signer.address(method, self._object(key) if key else self._bucket_address, query, 60)
        answer = await self._http.send(method, address, deadline=DEADLINE)
        if 300 <= answer.status < 400:
            raise StorageAway(ELSEWHERE)
        if answer.status not in (200, 204, 404):
            raise StorageAway(f"the bucket refused ({answer.status})")
        return answer.body.decode() if answer.status == 200 else ""

    def _object(self, key: str) -> str:
        return f"{self._bucket_address}/{quote(self._prefix + key, safe='/-_.~')}"

    @cached_property
    def _store(self) -> LocalStore | S3Store:
        """Made when first needed: a command that stores nothing makes no directory."""
        region = self._region
        if self._signer is None:
            return LocalStore(Path(self._place).resolve(), mkdir=True, automatic_cleanup=True)
        address = store_address(region)
        return S3Store(
            self._bucket,
            prefix=self._prefix or None,
            config={
                "region": region.storage_region,
                "access_key_id": self._signer.access_key,
                "secret_access_key": self._signer.secret_key,
                # Said even where they are the defaults: the library reads AWS_* of the environment for what is not, and
                # believes AWS_ENDPOINT_URL_S3 before any other name of the endpoint.
                "aws_endpoint_url_s3": address,
                "virtual_hosted_style_request": False,
                "skip_signature": False,
            },
            client_options={
                **_straight(address),
                "timeout": timedelta(seconds=3 * DEADLINE),
                "allow_http": urlsplit(address).scheme == "http" and not self._settings.is_production,
            },
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=DEADLINE)},
        )

    @asynccontextmanager
    async def _asked(self, deadline: float | None = DEADLINE) -> AsyncIterator[None]:
        """Whatever goes wrong with the store, in our words; never the library's, which quote keys and addresses."""
        try:
            async with self._breaker:
                try:
                    async with asyncio.timeout(deadline):
                        yield
                except FileNotFoundError as error:
                    raise NotStored("there is no such object") from error
                except (BaseError, PeerFailed, OSError, TimeoutError) as error:
                    away = f"the store cannot be used ({type(error).__name__})"
                    raise StorageAway(ELSEWHERE if NOWHERE in str(error) else away) from error
        except CircuitOpen as error:
            raise StorageAway("the store has failed and is left alone for seconds") from error


def _straight(address: str) -> ClientConfig:
    """To this host and no other, whatever the store answers and the environment says.

    The library follows redirects, obeys HTTPS_PROXY, ALL_PROXY and their like, and has a switch for neither. But a
    proxy that is named here is the only one, and it is asked for every host that is not excluded: so all but the
    store's own host (and what lies beneath it, which production lets no other region have) lead to nowhere.
    """
    return {"proxy_url": f"http://{NOWHERE}", "proxy_excludes": urlsplit(address).hostname or ""}


def _text(block: str, name: str) -> str:
    return block.partition(f"<{name}>")[2].partition(f"</{name}>")[0]
