"""The storage port: the same tests against a directory and against a server that speaks S3."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from pydantic import SecretStr

from service.core import clock
from service.core.settings import Settings
from service.guardrails.circuit_breaker import CircuitBreaker
from service.integrations import storage as port
from service.integrations.http import HttpClient
from service.integrations.s3_signature import Signer
from service.integrations.storage import NotStored, StorageAway, Store
from tests.support.buckets import KEY, REGION, SECRET, client_of, store_with


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Amazon's protocol over a socket, with a bucket that keeps every version."""
    with store_with("files", versions=True) as (host, number):
        yield f"http://{host}:{number}"


def bucket_settings(address: str) -> Settings:
    return Settings(
        storage_url="s3://files/live",
        storage_endpoint=address,
        storage_region=REGION,
        storage_access_key=SecretStr(KEY),
        storage_secret_key=SecretStr(SECRET),
    )


@pytest.fixture(params=["disk", "s3"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    settings = Settings(storage_url=f"file:{tmp_path}/files")
    if request.param == "s3":
        settings = bucket_settings(request.getfixturevalue("s3"))
    http = HttpClient(settings)
    yield store_of(settings, http)
    await http.aclose()


def store_of(settings: Settings, http: HttpClient) -> Store:
    """The home region's."""
    return Store(settings, http, settings, settings.home_region)


async def stream(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def read(storage: Store, key: str, *span: int) -> bytes:
    return b"".join([part async for part in storage.get(key, *span)])


async def names(storage: Store, prefix: str) -> dict[str, int]:
    return {found.key: found.size async for found in storage.walk(prefix)}


async def test_what_was_put_can_be_read_whole_and_in_part(storage: Store) -> None:
    """Larger than a part: the pieces come back in order."""
    parts = [secrets.token_bytes(1_000_000) for _ in range(11)]
    key = "t/one/ä b%+&=.csv"
    assert await storage.put(key, stream(*parts)) == 11_000_000
    whole = b"".join(parts)
    assert await read(storage, key) == whole
    assert await read(storage, key, 3_999_990, 8_500_000) == whole[3_999_990:8_500_000]
    assert await read(storage, key, 10_999_999) == whole[-1:]
    assert await storage.size(key) == 11_000_000
    assert await names(storage, "t/one") == {key: 11_000_000}
    assert await names(storage, "t/o") == {}, "a prefix is whole segments, so that one tenant's is never another's"
    async with aclosing(storage.get(key)) as pieces:
        assert len(await anext(pieces)) == port.PART, "a reader who stops early has taken no more than a part"
    await storage.delete(key)


async def test_nothing_at_all_is_an_object_too(storage: Store) -> None:
    assert await storage.put("t/two/empty", stream()) == 0
    assert await read(storage, "t/two/empty") == b""
    await storage.delete("t/two/empty")


async def test_an_upload_that_breaks_off_leaves_nothing(storage: Store, s3: str) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(6_000_000)
        raise ConnectionAbortedError("the browser was closed")

    with pytest.raises((ConnectionAbortedError, StorageAway)):
        await storage.put("t/three/half", broken())
    with pytest.raises(NotStored):
        await storage.size("t/three/half")
    assert await names(storage, "t/three") == {}
    assert "Uploads" not in client_of(s3).list_multipart_uploads(Bucket="files")


async def test_deleting_removes_every_version_and_twice_is_no_error(storage: Store, s3: str) -> None:
    for content in (b"first", b"second"):
        await storage.put("t/four/x", stream(content))
    await storage.put("t/four/x-longer", stream(b"stays"))
    await storage.delete("t/four/x")
    await storage.delete("t/four/x")
    assert await names(storage, "t/four") == {"t/four/x-longer": 5}
    kept = client_of(s3).list_object_versions(Bucket="files", Prefix="live/t/four/x")
    assert {found["Key"] for found in kept.get("Versions", ())} <= {"live/t/four/x-longer"}
    assert "DeleteMarkers" not in kept
    await storage.delete("t/four/x-longer")


@pytest.mark.parametrize("key", ["../outside", "/etc/passwd", "t//x", "t/\x00"])
async def test_a_key_that_climbs_is_refused(storage: Store, key: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, NotStored)):
        await storage.size(key)
    assert not (tmp_path / "outside").exists()


async def test_what_is_not_there_says_so(storage: Store) -> None:
    with pytest.raises(NotStored):
        await read(storage, "t/nobody/none")


async def test_a_signed_address_hands_out_one_object_as_an_attachment(s3: str) -> None:
    settings = bucket_settings(s3)
    async with httpx.AsyncClient() as browser:
        storage = store_of(settings, HttpClient(settings))
        await storage.put("t/five/x", stream(b"<script>"))
        address = storage.presign("t/five/x", seconds=60, disposition="attachment; filename*=UTF-8''%C3%A4.html")
        assert address is not None
        answer = await browser.get(address)
    assert answer.content == b"<script>"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%A4.html"
    assert answer.headers["content-type"].startswith("application/octet-stream")


def test_an_endpoint_that_is_no_address_is_refused_at_the_start(s3: str) -> None:
    """The library would panic with the first question, in words that nobody catches."""
    for endpoint in ("https://", "s3.example.com"):
        made = bucket_settings(s3).model_copy(update={"storage_endpoint": endpoint})
        with pytest.raises(ValueError, match="STORAGE_ENDPOINT must look like"):
            store_of(made, HttpClient(made))


def test_a_directory_signs_nothing(tmp_path: Path) -> None:
    settings = Settings(storage_url=f"file:{tmp_path}")
    assert store_of(settings, HttpClient(settings)).presign("t/x", seconds=60, disposition="attachment") is None


def test_the_signature_is_the_one_that_amazons_own_library_makes() -> None:
    query = {"versionId": "a b/c", "response-content-disposition": "attachment; filename=x"}
    url = "https://files.s3.eu-central-1.amazonaws.com/live/t/x%20y"
    theirs = AWSRequest(method="GET", url=url, params=query)
    S3SigV4QueryAuth(Credentials(KEY, SECRET), "s3", REGION, expires=60).add_auth(theirs)
    wanted = parse_qs(urlsplit(theirs.url).query)
    moment = datetime.strptime(wanted["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    clock.advance(moment + timedelta(milliseconds=300) - clock.now())
    ours = parse_qs(urlsplit(Signer(KEY, SECRET, REGION).address("GET", url, query, 60)).query)
    assert ours == wanted
    with pytest.raises(ValueError, match="300"):
        Signer(KEY, SECRET, REGION).address("GET", url, {}, 3600)


async def test_a_store_that_is_away_fails_in_our_words_and_is_then_left_alone(tmp_path: Path) -> None:
    """A file where the directory should be stands for a disk that went away."""
    (tmp_path / "files").write_text("not a directory")
    settings = Settings(storage_url=f"file:{tmp_path}/files/deeper")
    storage = store_of(settings, HttpClient(settings))
    for _ in range(6):
        with pytest.raises(StorageAway) as away:
            await storage.size("t/secret-key")
        assert "secret-key" not in str(away.value)
    assert "left alone" in str(away.value)


async def test_an_upload_keeps_nobody_from_asking_whether_the_store_is_back(tmp_path: Path) -> None:
    """An upload lasts as long as its sender likes; as the one call that finds out, it kept all others away."""
    settings = Settings(storage_url=f"file:{tmp_path}/files")
    storage = store_of(settings, HttpClient(settings))
    storage._breaker = CircuitBreaker("storage", failures=1, rest=0.0, counts=(StorageAway,))
    (tmp_path / "files").write_text("not a directory")
    with pytest.raises(StorageAway):
        await storage.size("t/x")
    (tmp_path / "files").unlink()
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"half"
        arrived.set()
        await go_on.wait()
        yield b"whole"

    upload = asyncio.create_task(storage.put("t/slow", slow()))
    await arrived.wait()
    assert await storage.put("t/quick", stream(b"x")) == 1
    go_on.set()
    assert await upload == 9
