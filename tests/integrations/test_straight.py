"""Nothing leaves by a way that the settings do not name: not by a redirect, not by a proxy, not by the environment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from obstore.store import S3Store
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from pydantic import SecretStr

from infra.sandbox.collector import Collector
from infra.sandbox.mail import MailSink
from infra.sandbox.sendgrid import SendGridStandIn
from infra.sandbox.stripe.server import StripeStandIn
from service.core import telemetry
from service.core.regions import MailThrough
from service.core.settings import Settings
from service.integrations import storage as port
from service.integrations.http import HttpClient
from service.integrations.mail import Mail, MailFailed, MailRefused, mailer_of
from service.integrations.storage import StorageAway, Store
from service.integrations.stripe.client import StripeApi
from tests.support.buckets import KEY, REGION, SECRET, store_with
from tests.support.egress import Tap, name_proxy

LARGE = port.MULTIPART + 1
MAIL = Mail("ada@example.com", "Hello", "Text\n", "<p>Text</p>", "reset.1", "accounts.reset")


@dataclass
class Ways:
    """A European store, and who must hear nothing: an American one, and a proxy, which would pass everything on."""

    eu: tuple[str, int]
    us: Tap
    proxy: Tap


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[str, int]]:
    with store_with("straight", versions=True) as where:
        yield where


@pytest.fixture
def ways(s3: tuple[str, int]) -> Iterator[Ways]:
    with Tap(*s3) as us, Tap(*s3) as proxy:
        yield Ways(s3, us, proxy)


def settings_of(store: Tap) -> Settings:
    return Settings(
        storage_url="s3://straight",
        storage_endpoint=store.address,
        storage_region=REGION,
        storage_access_key=SecretStr(KEY),
        storage_secret_key=SecretStr(SECRET),
    )


async def put(store: Store, size: int) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield bytes(size)

    await store.put("t/x", parts())


async def read(store: Store) -> None:
    assert [part async for part in store.get("t/x", 0, 4)] == [bytes(4)]


async def listed(store: Store) -> None:
    assert [found.key async for found in store.walk("t")] == ["t/x"]


QUESTIONS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "HEAD /straight/t/x": lambda store: store.size("t/x"),
    "GET /straight/t/x": read,
    r"GET /straight\?list-type": listed,
    r"POST /straight/t/x\?uploads": lambda store: put(store, 4),
    r"PUT /straight/t/x\?partNumber=1": lambda store: put(store, LARGE),
    r"(POST|DELETE) /straight/t/x\?uploadId": lambda store: put(store, LARGE),
    r"GET /straight/?\?.*versions": lambda store: store.delete("t/x"),
    r"DELETE /straight/t/x\?.*versionId": lambda store: store.delete("t/x"),
}
"""What a store can be asked, as it begins on the line, and who asks that."""


async def ask_all(ways: Ways) -> dict[str, Exception | None]:
    """Each question to a store of its own, which answers it, and it alone, with the American address."""

    async def ask(question: str) -> Exception | None:
        with Tap(*ways.eu) as eu:
            http = HttpClient(settings_of(eu))
            store = Store(settings := settings_of(eu), http, settings, settings.home_region)
            await put(store, 4)
            eu.send_away(question, ways.us.other_name)
            try:
                await QUESTIONS[question](store)
            except Exception as error:
                return error
            finally:
                assert eu.sent_away, f"{question}: was never asked"
                await http.aclose()
        return None

    return dict(zip(QUESTIONS, await asyncio.gather(*map(ask, QUESTIONS)), strict=True))


async def test_a_store_that_redirects_is_not_followed(ways: Ways) -> None:
    answers = await ask_all(ways)
    assert not ways.us.heard, "a European store sent us to America, and we went"
    for question, error in answers.items():
        assert isinstance(error, StorageAway), f"{question}: {error!r}; trying again later can help"
    told = [question for question, error in answers.items() if "sent us to another address" in str(error)]
    assert len(told) >= 7, f"whoever reads the log learns why: {answers}"


async def test_it_bites_without_the_dead_end_the_library_goes(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "_straight", lambda address: {})
    await ask_all(ways)
    for verb in (
        b"HEAD /straight/t/x",
        b"GET /straight/t/x",
        b"GET /straight?list-type",
        b"POST /straight/t/x?uploads",
    ):
        assert verb in bytes(ways.us.heard)


@pytest.fixture
def environment(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose environment sends everything through a proxy, and its library for objects to America."""
    name_proxy(monkeypatch, ways.proxy)
    for name in ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, ways.us.other_name)
    for name in ("AWS_SKIP_SIGNATURE", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST"):
        monkeypatch.setenv(name, "true")


@pytest.mark.usefixtures("environment")
async def test_the_environment_leads_no_client_astray(
    ways: Ways, settings: Settings, mailbox: MailSink, stripe: StripeStandIn
) -> None:
    with ExitStack() as stack:
        eu = stack.enter_context(Tap(*ways.eu))
        sendgrid = stack.enter_context(SendGridStandIn(mailbox))
        collector = stack.enter_context(Collector())
        http = HttpClient(made := settings_of(eu))
        store = Store(made, http, made, made.home_region)
        await put(store, LARGE)
        await store.size("t/x")
        await read(store)
        await listed(store)
        await store.delete("t/x")
        assert eu.heard.count(b"AWS4-HMAC-SHA256") >= 8, "each question is signed"

        pools = {
            MailThrough.SMTP: settings,
            MailThrough.SENDGRID: settings.model_copy(update={"sendgrid_api_base": sendgrid.address}),
        }
        for through, pool in pools.items():
            asked = HttpClient(pool)
            await mailer_of(pool.model_copy(update={"mail_through": through}), asked).send(MAIL)
            await asked.aclose()
        assert len(mailbox.to("ada@example.com")) >= 2

        client = StripeApi(settings)
        await client.call("get", "/v1/prices")
        await client.aclose()

        tracer = TracerProvider().get_tracer("test")
        (span := tracer.start_span("a span")).end()
        assert isinstance(span, ReadableSpan)
        exporter = telemetry.exporter_to(collector.address)
        assert await asyncio.to_thread(exporter.export, [span]) is SpanExportResult.SUCCESS
        exporter.shutdown()
        await http.aclose()
    assert not ways.proxy.heard, f"through a proxy went: {bytes(ways.proxy.heard[:200])!r}"
    assert not ways.us.heard


def without_an_endpoint(*arguments: Any, config: Any, **more: Any) -> S3Store:
    del config["aws_endpoint_url_s3"]
    return S3Store(*arguments, config=config, **more)


@pytest.mark.usefixtures("environment")
async def test_it_bites_a_client_that_believes_the_environment_is_heard(
    ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with httpx.AsyncClient() as naive:
        await naive.get("http://{}:{}/".format(*ways.eu))
    assert ways.proxy.heard.startswith(b"GET http://"), "the proxy would have heard"
    ways.proxy.heard.clear()
    monkeypatch.setattr(port, "_straight", lambda address: {})
    monkeypatch.setattr(port, "S3Store", without_an_endpoint)
    with Tap(*ways.eu) as eu:
        http = HttpClient(made := settings_of(eu))
        await put(Store(made, http, made, made.home_region), 4)
        await http.aclose()
    assert urlsplit(ways.us.other_name).netloc.encode() in bytes(ways.proxy.heard), "to America, and through the proxy"


async def test_a_mail_pool_that_redirects_is_not_followed(settings: Settings, mailbox: MailSink) -> None:
    with SendGridStandIn(mailbox) as sendgrid, ExitStack() as stack:
        parts = urlsplit(sendgrid.address)
        eu, us = (stack.enter_context(Tap(parts.hostname or "", parts.port or 0)) for _ in range(2))
        eu.send_away("POST /v3/mail/send", us.address)
        pool = settings.model_copy(update={"mail_through": MailThrough.SENDGRID, "sendgrid_api_base": eu.address})
        http = HttpClient(pool)
        with pytest.raises(MailFailed, match="307") as failed:
            await mailer_of(pool, http).send(MAIL)
        assert eu.sent_away == 1
        assert not isinstance(failed.value, MailRefused), "it is sent later"
        assert not us.heard, "a European mail pool sent us to America, and we went"
        http._client.follow_redirects = True
        with suppress(MailFailed):
            await mailer_of(pool, http).send(MAIL)
        assert us.heard, "it bites: a client that follows redirects goes"
        await http.aclose()
