"""Nobody reaches our own network through us: refused when saved, and again at each connection, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from infra.sandbox.receiver import METADATA
from service.core.settings import Environment, InsecureSettings, Settings
from service.integrations.http import AddressRefused, PeerFailed
from service.integrations.webhooks import WebhookSender, new_secret
from tests.features.webhooks.conftest import Post

PUBLIC = "93.184.216.34"
NAME = "hooks.customer.example"
FORM = {"description": "", "indicator_created": "on"}


class Names:
    """The resolver of the machine, which somebody else's name server answers: first this, then that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer, self._real = PUBLIC, socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._ask)

    def _ask(self, host: str, *more: Any, **options: Any) -> Any:
        return self._real(self.answer if host == NAME else host, *more, **options)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


@pytest.fixture
async def inside() -> AsyncIterator[tuple[int, list[str]]]:
    """A service of our own network: its port, and who connected."""
    seen: list[str] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(str(writer.get_extra_info("peername")))
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], seen
    server.close()


async def test_a_name_that_turns_inside_after_it_was_saved_is_not_followed(
    settings: Settings, names: Names, inside: tuple[int, list[str]]
) -> None:
    """DNS rebinding: without a check of the very address that is connected to, the second answer is believed."""
    port, seen = inside
    sender = WebhookSender(settings, ports=frozenset({port}))
    url = f"https://{NAME}:{port}/"
    try:
        await sender.look_up(url)
        names.answer = "127.0.0.1"
        with pytest.raises(AddressRefused, match="inside a private network"):
            await sender.send(url, "{}", "msg_1", [new_secret()])
        with pytest.raises(AddressRefused, match="inside a private network"):
            await sender.look_up(url)
    finally:
        await sender.aclose()
    assert seen == [], "not even a connection"


async def test_a_redirect_inside_is_a_failed_attempt_and_goes_nowhere(
    post: Post, inside: tuple[int, list[str]]
) -> None:
    port, seen = inside
    for target in (METADATA, f"http://127.0.0.1:{port}/"):
        delivery = await post.message(await post.endpoint(f"{post.receiver.url}?to={len(target)}"))
        post.receiver.knobs.redirect = target
        assert await post.send() == 1
        [tried] = await post.attempts(delivery)
        assert (tried["status"], tried["error"]) == (302, "a redirect is not followed")
        assert (await post.row("webhook_deliveries", delivery))["state"] == "waiting"
    assert seen == []


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "https://localhost/", "https://127.0.0.2/", "https://2130706433/", "https://0x7f000001/",
        "https://0177.0.0.1/", "https://127.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://10.0.0.1/",
        "https://[64:ff9b::a00:1]/", "https://169.254.169.254/", "https://224.0.0.1/", "https://[fe80::1]/",
        "https://192.168.0.1:8443/", "https://example.com:22/", "https://user:password@example.com/", "https://a b/",
        "ftp://example.com/", "https://[::1/", "https://example.com:99999/", "https://example.com/#part", "/hooks",
        "https://ex\u0430mple.com/", "https://no-such-name.invalid/", "javascript:alert(1)",
    ],
)  # fmt: skip
async def test_an_address_that_is_never_asked_is_not_saved(post: Post, url: str) -> None:
    answer = await post.admin.submit("/webhook-endpoints/new", url=url, **FORM)
    assert answer.status_code == 422
    assert 'id="f-url-error"' in answer.text
    assert await post.superuser.fetchval("SELECT count(*) FROM webhook_endpoints") == 0


async def test_an_endpoint_cannot_be_moved_inside_either(post: Post) -> None:
    endpoint = await post.endpoint()
    path = f"/webhook-endpoints/{endpoint}/edit"
    answer = await post.admin.submit(path, url="https://169.254.169.254/", **FORM)
    assert answer.status_code == 422
    assert (await post.row("webhook_endpoints", endpoint))["url"] == post.receiver.url


async def test_production_reaches_no_sandbox(settings: Settings) -> None:
    production = settings.model_copy(update={"environment": Environment.PRODUCTION})
    sender = WebhookSender(production)
    try:
        for url in ("http://127.0.0.1/", "https://127.0.0.1/"):
            with pytest.raises(PeerFailed):
                await sender.look_up(url)
    finally:
        await sender.aclose()
    with pytest.raises(InsecureSettings, match="WEBHOOK_SANDBOX_HOSTS"):
        Settings(environment=Environment.PRODUCTION, webhook_sandbox_hosts=("127.0.0.1",))
