"""Static files: a name per content, kept for ever, nothing else served."""

from __future__ import annotations

import gzip
from pathlib import Path

import httpx
import pytest

from service.web.assets import STATIC, TYPES, Assets, assets

FOREVER = "public, max-age=31536000, immutable"
EXPECTED = {"app.css", "app.js", "theme.js", "icons.svg", "logo.svg", "vendor/htmx-4.0.1.min.js"}


def test_every_file_of_the_folder_has_an_address() -> None:
    served = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.suffix in TYPES}
    assert served >= EXPECTED
    addresses = {assets().url(name) for name in served}
    assert len(addresses) == len(served)


@pytest.mark.parametrize("name", sorted(EXPECTED))
async def test_a_file_is_served_for_ever_with_its_type(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.get(assets().url(name), headers={"Accept-Encoding": "identity"})
    assert answer.status_code == 200
    assert answer.content == (STATIC / name).read_bytes()
    assert answer.headers["cache-control"] == FOREVER
    assert answer.headers["content-type"] == TYPES[Path(name).suffix]
    assert answer.headers["vary"] == "Accept-Encoding"


async def test_gzip_is_sent_to_whoever_takes_it(client: httpx.AsyncClient) -> None:
    url = assets().url("app.css")
    async with client.stream("GET", url, headers={"Accept-Encoding": "br, gzip;q=0.8"}) as answer:
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == (STATIC / "app.css").read_bytes()
    plain = await client.get(url, headers={"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in plain.headers
    assert plain.headers["etag"] != answer.headers["etag"]


async def test_a_browser_that_has_the_file_gets_304(client: httpx.AsyncClient) -> None:
    url = assets().url("app.js")
    first = await client.get(url)
    again = await client.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == FOREVER


async def test_head_answers_without_a_body_and_post_is_refused(client: httpx.AsyncClient) -> None:
    url = assets().url("logo.svg")
    head = await client.head(url)
    assert head.status_code == 200
    assert int(head.headers["content-length"]) > 0
    assert head.content == b""
    refused = await client.post(url)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    assert "Ask for this address with GET" in refused.text


@pytest.mark.parametrize(
    "path",
    [
        "/static/app.css",
        "/static/app.00000000.css",
        "/static/",
        "/static/vendor/LICENSES.md",
        "/static/../templates/base.html",
        "/static/%2e%2e/%2e%2e/core/settings.py",
        "/static/app%00.css",
    ],
)
async def test_anything_else_is_404_and_not_cached(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert "immutable" not in answer.headers.get("cache-control", "")


async def test_a_missing_file_says_what_to_do(client: httpx.AsyncClient) -> None:
    answer = await client.get("/static/app.00000000.css")
    assert "Reload the page" in answer.text


def test_changed_content_changes_the_address_and_the_version(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("a{}")
    before = Assets(tmp_path)
    (tmp_path / "a.css").write_text("b{}")
    after = Assets(tmp_path)
    assert before.url("a.css") != after.url("a.css")
    assert before.version != after.version


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LookupError, match=r"app\.css"):
        assets().url("missing.css")


def test_the_files_stay_small() -> None:
    """The page budget: a first visit over a slow phone connection costs under 30 KB."""
    assert len((STATIC / "app.css").read_bytes()) <= 26_000
    packed = sum(len(gzip.compress((STATIC / name).read_bytes(), 9)) for name in EXPECTED)
    assert 10_000 < packed < 30_000


async def test_what_is_no_page_has_an_icon_too(client: httpx.AsyncClient) -> None:
    answer = await client.get("/favicon.ico")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    assert answer.content == (STATIC / "logo.svg").read_bytes()
    assert answer.headers["cache-control"] == "public, max-age=86400", "the name stays when the picture changes"
    again = await client.get("/favicon.ico", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (await client.post("/favicon.ico")).status_code == 405
