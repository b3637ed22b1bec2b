"""The outgoing client against peers that hang, drip, flood, redirect and lure it inside."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator

import pytest

from infra.sandbox.ports import free_port
from service.core.settings import Environment, Settings
from service.integrations.http import AddressRefused, HttpClient, PeerFailed, PeerUnreached, is_public
from tests.integrations.conftest import Peer


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[HttpClient]:
    """Development: the sandbox's host, 127.0.0.1, may be asked."""
    made = HttpClient(settings)
    yield made
    await made.aclose()


def answering(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def start(peer: Peer, raw: bytes, seen: list[bytes] | None = None) -> str:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(request)
        writer.write(raw)
        await writer.drain()

    return f"http://127.0.0.1:{await peer(talk)}"


async def test_an_ordinary_answer(client: HttpClient, peer: Peer) -> None:
    url = await start(peer, answering(b'{"ok": true}', "content-type: application/json"))
    answer = await client.send("GET", url)
    assert (answer.status, answer.json_object()) == (200, {"ok": True})


async def test_a_redirect_is_an_answer_and_not_followed(client: HttpClient, peer: Peer) -> None:
    url = await start(peer, answering(b"", "location: http://169.254.169.254/", status="302 Found"))
    assert (await client.send("GET", url)).status == 302


@pytest.mark.parametrize("body", [b"x" * 2_000_000, gzip.compress(b"\0" * 20_000_000)], ids=["flood", "bomb"])
async def test_an_answer_without_end_is_cut_off(client: HttpClient, peer: Peer, body: bytes) -> None:
    encoding = "content-encoding: gzip" if body[:2] == b"\x1f\x8b" else "x-plain: yes"
    url = await start(peer, answering(body, encoding))
    with pytest.raises(PeerFailed, match="larger than"):
        await client.send("GET", url)


async def test_the_deadline_is_for_everything_together(client: HttpClient, peer: Peer) -> None:
    """A byte each 50 ms resets a timeout per read for ever; a total deadline is not impressed."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    for talk in (drip, silence):
        port, began = await peer(talk), time.perf_counter()
        with pytest.raises(PeerFailed, match="within"):
            await client.send("GET", f"http://127.0.0.1:{port}", deadline=0.4)
        assert time.perf_counter() - began < 2


async def test_a_peer_that_hangs_up_or_talks_nonsense_is_a_failure(client: HttpClient, peer: Peer) -> None:
    for raw in (b"", b"SSH-2.0-OpenSSH\r\n\r\n"):
        with pytest.raises(PeerFailed, match="could not be asked"):
            await client.send("GET", await start(peer, raw))
    with pytest.raises(PeerFailed):
        (await client.send("GET", await start(peer, answering(b"[1]")))).json_object()
    with pytest.raises(PeerFailed):
        (await client.send("GET", await start(peer, answering(b"<html>")))).json_object()


async def test_cookies_of_one_answer_do_not_travel_on(client: HttpClient, peer: Peer) -> None:
    seen: list[bytes] = []
    url = await start(peer, answering(b"", "set-cookie: who=me; Path=/"), seen)
    await client.send("GET", url)
    await client.send("GET", url)
    assert len(seen) == 2
    assert b"cookie" not in seen[1].lower()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "https://user:password@example.com/",
        "https:///nowhere",
        "http://localhost:1/",
        "https://localhost:1/",
        "https://127.0.0.2/",
        "https://[::1]/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::ffff:10.0.0.1]/",
        "https://0x7f000001/",
        "https://2130706433/",
        "https://127.1/",
    ],
)
async def test_nothing_inside_is_asked_however_it_is_spelled(client: HttpClient, url: str) -> None:
    with pytest.raises(PeerFailed) as refused:
        await client.send("GET", url, deadline=2)
    assert (
        isinstance(refused.value, AddressRefused) or "no address" in str(refused.value) or "asked" in str(refused.value)
    )


async def test_production_asks_nothing_private_at_all(settings: Settings, peer: Peer) -> None:
    """Even an issuer that resolves to the inside (DNS rebinding) is refused where the connection is made."""
    production = settings.model_copy(
        update={"environment": Environment.PRODUCTION, "oidc_issuer": "https://127.0.0.1:1"}
    )
    client = HttpClient(production)
    try:
        with pytest.raises(AddressRefused, match="private network"):
            await client.send("GET", "https://127.0.0.1:1/")
        with pytest.raises(AddressRefused, match="only https"):
            await client.send("GET", await start(peer, answering(b"")))
    finally:
        await client.aclose()


async def test_our_own_store_may_be_inside_and_is_nobodys_way_in(settings: Settings) -> None:
    """A bucket behind a private endpoint took files, and erasing their versions was refused for ever."""
    made = settings.model_copy(
        update={
            "environment": Environment.PRODUCTION,
            "storage_url": "s3://files",
            "storage_endpoint": f"https://localhost:{free_port()}",
        }
    )
    ours, customers = HttpClient(made), HttpClient(made, sandbox=())
    try:
        with pytest.raises(PeerUnreached) as reached:
            await ours.send("GET", made.storage_endpoint)
        assert not isinstance(reached.value, AddressRefused), "it was asked, and nobody listens there"
        for client, url in (
            (customers, made.storage_endpoint),
            (ours, made.storage_endpoint.replace("localhost", "127.0.0.1")),
        ):
            with pytest.raises(AddressRefused, match="private network"):
                await client.send("GET", url)
        with pytest.raises(AddressRefused, match="only https"):
            await ours.send("GET", made.storage_endpoint.replace("https", "http"))
    finally:
        await ours.aclose()
        await customers.aclose()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True), ("2606:2800:220:1::1", True), ("127.0.0.1", False), ("10.1.2.3", False),
        ("172.16.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False), ("100.64.0.1", False),
        ("0.0.0.0", False), ("224.0.0.1", False), ("240.0.0.1", False), ("255.255.255.255", False), ("::1", False),
        ("::", False), ("fc00::1", False), ("fe80::1", False), ("fe80::1%eth0", False), ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True), ("64:ff9b::a00:1", False), ("2002:a00:1::", False),
        ("2001:0:a00:1::", False), ("ff02::1", False), ("nonsense", False),
        ("fec0::1", False), ("feff::1", False), ("192.88.99.1", False), ("192.88.98.1", True),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public
