"""A day that talks to every other firm there is; who hears what about whom is compared with what the map declares.

Taps on the wires, so whatever a client sends counts: addresses, headers, bodies. A word of each kind of data is planted
in one person and their organization, and looked for in what each firm heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from infra.sandbox.clamd import Clamd
from infra.sandbox.mail import MailSink
from infra.sandbox.oidc import OIDCProvider
from infra.sandbox.ports import HOST, free_port
from infra.sandbox.receiver import Receiver
from infra.sandbox.sendgrid import PUBLIC_KEY, SendGridStandIn
from infra.sandbox.sources.github import TOKEN
from infra.sandbox.stripe import customers
from infra.sandbox.stripe.server import StripeStandIn
from service.core.ids import new_id
from service.core.regions import MailThrough
from service.core.settings import Settings
from service.guardrails.data_map import PROCESSORS, Kind, of_kind
from service.guardrails.mailing import hash_of
from service.guardrails.permissions import Role
from tests.conftest import Outside, TestServers
from tests.features.accounts.test_provider import There, arrive
from tests.support.buckets import KEY, REGION, SECRET, store_with
from tests.support.client import Client
from tests.support.egress import Tap
from tests.support.factories import Factory, Person
from tests.support.worlds import own_world

ELSEWHERE = {
    "hosting": "has all of it: the whole map is about what lies there",
    "smtp": "takes the same mails as SendGrid does, from the same `Mail`",
    "telemetry": "tests/core/test_logging.py sees that a span tells no word of an error, and statements have no values",
}
"""Who is not tapped here, each with the reason."""
HEARS_AT_LEAST = {
    "sendgrid": {"contact.email", "name"}, "stripe": {"tenant", "contact.email"}, "storage": {"content", "subject"},
    "identity": set(), "scanner": {"content"}, "sources": {"credentials"}, "webhooks": set(),
}  # fmt: skip
"""So that a tap which hears nothing, or words that are never found, prove nothing."""


def port_of(address: str) -> tuple[str, int]:
    parts = urlsplit(address)
    return parts.hostname or HOST, parts.port or 0


@dataclass
class Wires:
    """A tap before each firm; the sources are three."""

    of: dict[str, list[Tap]]
    values: dict[str, object]
    receiver: str
    issuer: OIDCProvider

    def heard(self, name: str) -> bytes:
        return b"".join(bytes(tap.heard) for tap in self.of[name])


@pytest.fixture
def wires(stripe: StripeStandIn, outside: Outside, clamd: Clamd) -> Iterator[Wires]:
    with ExitStack() as stack:
        store = stack.enter_context(store_with("heard"))
        sendgrid = stack.enter_context(SendGridStandIn(stack.enter_context(MailSink())))
        receiver = stack.enter_context(Receiver())
        provider_port = free_port()
        targets = {
            "sendgrid": [port_of(sendgrid.address)], "stripe": [port_of(stripe.address)], "storage": [store],
            "identity": [(HOST, provider_port)], "scanner": [(clamd.host, clamd.clamd_port)],
            "sources": [port_of(one.address) for one in (outside.rates, outside.github, outside.plausible)],
            "webhooks": [port_of(receiver.address)],
        }  # fmt: skip
        of = {name: [stack.enter_context(Tap(*one)) for one in each] for name, each in targets.items()}
        issuer = of["identity"][0].address
        values: dict[str, object] = {
            "mail_through": MailThrough.SENDGRID, "sendgrid_api_base": of["sendgrid"][0].address,
            "sendgrid_webhook_keys": (PUBLIC_KEY,), "stripe_api_base": of["stripe"][0].address,
            "storage_url": "s3://heard", "storage_endpoint": of["storage"][0].address, "storage_region": REGION,
            "storage_access_key": SecretStr(KEY), "storage_secret_key": SecretStr(SECRET), "oidc_issuer": issuer,
            "scanner_url": f"tcp://{HOST}:{of['scanner'][0].port}", "rates_api_base": of["sources"][0].address,
            "github_api_base": of["sources"][1].address, "plausible_api_base": of["sources"][2].address,
        }  # fmt: skip
        provider = stack.enter_context(OIDCProvider(provider_port, issuer=issuer))
        path = urlsplit(receiver.url).path
        yield Wires(of, values, f"{of['webhooks'][0].address}{path}", provider)


@dataclass
class World:
    wires: Wires
    factory: Factory
    stripe: StripeStandIn

    @property
    def db(self) -> asyncpg.Connection[Any]:
        return self.factory.superuser

    async def until(self, question: str, *arguments: object) -> None:
        for _ in range(1_200):
            if await self.db.fetchval(question, *arguments):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"it never was so: {question}")


@pytest.fixture
async def world(
    servers: TestServers, settings: Settings, worker_name: str, wires: Wires, stripe: StripeStandIn
) -> AsyncIterator[World]:
    async with own_world(servers, settings, f"heard_{worker_name}", wires.values) as (_, factory):
        yield World(wires, factory, stripe)


@dataclass
class Words:
    """One of each kind of data, which nobody else in the world has."""

    person: Person
    name: str
    content: str
    credentials: str
    device: str
    address: str = "198.51.100.77"

    def by_category(self) -> dict[str, list[str]]:
        return {
            "contact.email": [self.person.email.partition("@")[0]],
            "name": [self.name],
            "subject": [str(self.person.id), self.person.id.hex],
            "tenant": [str(self.person.organization_id)],
            "content": [self.content],
            "credentials": [self.credentials],
            "device": [self.device],
            "address": [self.address],
            "pseudonym": [hash_of(self.person.email).hex()],
        }

    def found_in(self, heard: bytes) -> set[str]:
        return {category for category, words in self.by_category().items() if any(w.encode() in heard for w in words)}


def undeclared(words: Words, heard: dict[str, bytes]) -> dict[str, set[str]]:
    """Processor -> what it heard of the person, and its `receives` does not say."""
    found = {name: words.found_in(said) - set(PROCESSORS[name].receives) for name, said in heard.items()}
    return {name: more for name, more in found.items() if more}


async def a_day(world: World, words: Words) -> None:
    """Everything that has us talk to others, by the person in question."""
    person = words.person
    await world.db.execute("UPDATE users SET name = $2 WHERE id = $1", person.id, words.name)
    async with await world.factory.client(person) as zelda:
        zelda.http.headers.update({"user-agent": words.device, "x-forwarded-for": words.address})
        await zelda.submit("/members/invitations", page="/members", email=f"{new_id().hex}@example.com", role="viewer")
        bought = await zelda.submit("/billing/checkout", page="/billing", intent=uuid4().hex, plan="team")
        assert bought.status_code == 303, bought.text[:2_000]
        made = await zelda.submit(
            "/webhook-endpoints/new", url=world.wires.receiver, description=words.content, indicator_created="on"
        )
        assert made.status_code == 303, made.text[:2_000]
        source = await zelda.submit("/sources/new/github", repository="lighthouse/beacon", key=words.credentials)
        assert source.status_code == 303, source.text[:2_000]
        indicator = await zelda.submit("/indicators/new", name=words.content, description="", unit="")
        assert indicator.status_code == 303, indicator.text[:2_000]
        await upload(world, zelda, words.content)
        await world.until("SELECT count(*) > 0 FROM sent_mails WHERE template LIKE 'organ%' AND state = 'sent'")
        await world.until("SELECT count(*) > 0 FROM source_runs")
        await world.until("SELECT count(*) > 0 FROM webhook_attempts")
        await log_in_elsewhere(world, zelda, person.email)
        await be_erased(world, zelda, person)


async def upload(world: World, client: Client, content: str) -> None:
    page = await client.page("/files")
    csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
    answer = await client.http.post(
        "/files", data={"csrf": csrf}, files={"file": ("plan.txt", content.encode())}, headers={"origin": client.origin}
    )
    assert answer.status_code == 303, answer.text[:2_000]
    await world.until("SELECT bool_and(state = 'clean') FROM files")


async def log_in_elsewhere(world: World, client: Client, email: str) -> None:
    async with await world.factory.client() as visitor, httpx.AsyncClient() as browser:
        visitor.http.headers["user-agent"] = client.http.headers["user-agent"]
        sent = await visitor.submit("/login/provider", page="/login")
        back = await There(browser).log_in(sent.headers["location"], email)
        # What the browser carries there is ours, too: the address that we sent it to.
        world.wires.of["identity"][0].heard += sent.headers["location"].encode()
        await arrive(visitor, back)


async def be_erased(world: World, client: Client, person: Person) -> None:
    with world.stripe.account.lock:
        known = await world.db.fetchval("SELECT stripe_customer_id FROM billing_customers LIMIT 1")
        customers.update(world.stripe.account, {"email": person.email}, known)  # as Checkout notes it
    asked = await client.submit("/privacy/erasure", page="/privacy/erasure", email=person.email)
    assert asked.status_code == 303, asked.text[:2_000]
    await world.db.execute("UPDATE erasure_requests SET due_at = now(), next_attempt_at = now()")
    await world.until("SELECT state = 'done' FROM erasure_requests WHERE user_id = $1", person.id)


@pytest.mark.slow
async def test_nobody_hears_more_than_the_map_declares(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(world.wires.of) | set(ELSEWHERE) == set(PROCESSORS), "tap the new one, or say where it is judged"
    word = new_id().hex[-10:]
    words = Words(await world.factory.person(Role.OWNER), f"Zelda{word}", f"plan{word}", TOKEN, f"Browser{word}")
    await a_day(world, words)
    heard = {name: world.wires.heard(name) for name in world.wires.of}
    for name, least in HEARS_AT_LEAST.items():
        assert heard[name], f"{name} was never talked to"
        assert words.found_in(heard[name]) >= least, f"{name}: the tap hears too little"
    found = undeclared(words, heard)
    assert not found, f"{found}: may they? Then say so in guardrails/data_map/processors.py; else do not send it"
    monkeypatch.setitem(PROCESSORS, "sources", PROCESSORS["scanner"])
    assert undeclared(words, heard) == {"sources": {"credentials"}}, "it bites"


def test_the_store_may_hold_what_is_put_there() -> None:
    stored = {category for store in of_kind(Kind.OBJECTS).values() for category in store.categories}
    assert len(stored) >= 4
    assert stored == set(PROCESSORS["storage"].receives), "stores.py and processors.py say the same of it"
