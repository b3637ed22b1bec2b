"""Two organizations live their day, one in Europe and one in America; who was talked to is recorded on the line.

A database, a web process and a worker of their own: a worker of other tests knows one region only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from infra.sandbox.mail import MailSink, Message
from service.core.ids import new_id
from service.core.regions import MailThrough, RegionSettings, split_key
from service.core.settings import Settings
from service.doctor import examine
from service.guardrails.permissions import Role
from tests.conftest import TestServers
from tests.support.buckets import KEY, REGION, SECRET, store_with
from tests.support.client import Client
from tests.support.egress import Tap, name_proxy, recorded
from tests.support.factories import Factory
from tests.support.worlds import own_world

THREADS = {"web of two regions", "worker of two regions"}


@dataclass
class Region:
    """What one region has, with ears in it."""

    store: Tap
    mail: MailSink
    pool: Tap

    def place(self, name: str) -> dict[str, object]:
        return {
            "storage_url": f"s3://files-{name}",
            "storage_endpoint": self.store.address,
            "storage_region": REGION,
            "storage_access_key": SecretStr(KEY),
            "storage_secret_key": SecretStr(SECRET),
            "mail_through": MailThrough.SMTP,
            "smtp_url": SecretStr(f"smtp://127.0.0.1:{self.pool.port}"),
        }

    def knows(self, word: str) -> bool:
        return word.encode() in bytes(self.store.heard) or word.encode() in bytes(self.pool.heard)


@dataclass
class World:
    settings: Settings
    regions: dict[str, Region]
    factory: Factory


@pytest.fixture(scope="module")
def regions() -> Iterator[dict[str, Region]]:
    """Two stores, which are one server behind two taps, and two mail pools."""
    with ExitStack() as stack:
        store = stack.enter_context(store_with("files-eu", "files-us"))
        found = {}
        for name in ("eu", "us"):
            mail = stack.enter_context(MailSink())
            taps = [stack.enter_context(Tap(*where)) for where in (store, ("127.0.0.1", mail.smtp_port))]
            found[name] = Region(taps[0], mail, taps[1])
        yield found


@pytest.fixture
async def world(
    servers: TestServers, settings: Settings, worker_name: str, regions: dict[str, Region]
) -> AsyncIterator[World]:
    values = {"regions": {"us": RegionSettings(**regions["us"].place("us"))}, **regions["eu"].place("eu")}
    named = own_world(servers, settings, f"residency_{worker_name}", values, sorted(THREADS))
    async with named as (made, factory):
        yield World(made, regions, factory)


@dataclass
class Day:
    """What a customer's day leaves: words to listen for."""

    organization: UUID
    invited: str
    content: str
    download: str
    copy: str

    @property
    def words(self) -> tuple[str, ...]:
        return str(self.organization), self.invited, self.content, self.copy


async def a_day(world: World, region: str) -> Day:
    """Make an organization, invite somebody, upload a file, read it back, import readings, ask for a copy of it all."""
    invited, content = f"i{new_id().hex[-12:]}@example.com", f"secret plan {new_id().hex}"
    person = await world.factory.person(verified=True)
    async with await world.factory.client(person) as owner:
        form = await owner.page("/organizations/new")
        assert '<option value="eu" selected>EU</option>' in form, "home is what is offered first"
        wrong = await owner.submit("/organizations/new", name="Nowhere", region="mars")
        assert wrong.status_code == 422
        assert "Choose one of eu, us." in wrong.text
        made = await owner.submit("/organizations/new", name=f"Day in {region}", region=region)
        assert made.status_code == 303, made.text
        row = await world.factory.superuser.fetchrow(
            "SELECT o.id, o.region FROM organizations o JOIN memberships m ON m.organization_id = o.id"
            " WHERE m.user_id = $1", person.id,
        )  # fmt: skip
        assert row["region"] == region
        assert f">{region.upper()}</dd>" in await owner.page("/organization"), "people see where they are"
        sent = await owner.submit("/members/invitations", email=invited, role="member")
        assert sent.status_code == 303, sent.text
        download = await file_there_and_back(world, owner, content)
        await readings_from_a_file(world, owner, content)
        lies, copy = await copy_of_it_all(world, owner, row["id"])
        assert lies == region, f"the copy of everything that an organization of {region} has lies in {lies}"
    await until_mail(world.regions[region].mail, invited)
    return Day(row["id"], invited, content, download, copy)


async def file_there_and_back(world: World, owner: Client, content: str) -> str:
    """Answers the address it was downloaded from."""
    headers, csrf = {"origin": owner.origin}, await token(owner)
    files = {"file": ("plan.txt", content.encode())}
    answer = await owner.http.post("/files", data={"csrf": csrf}, files=files, headers=headers)
    assert answer.status_code == 303, answer.text
    file = await world.factory.superuser.fetchval("SELECT id FROM files ORDER BY id DESC LIMIT 1")
    await until(world, "SELECT state = 'clean' FROM files WHERE id = $1", file)
    url: str = (await owner.get(f"/files/{file}/download")).headers["location"]
    async with httpx.AsyncClient(trust_env=False) as browser:
        assert (await browser.get(url)).text == content
    return url


async def a_store_that_sends_away(world: World) -> None:
    """The European store answers with an American address: the customer is told to come again, and nobody goes."""
    eu, us = world.regions["eu"].store, world.regions["us"].store
    person = await world.factory.person(Role.OWNER)
    us.heard.clear()
    eu.send_away("", us.other_name)
    content = f"a plan that stays {new_id().hex}"
    async with await world.factory.client(person) as owner:
        files = {"file": ("plan.txt", content.encode())}
        headers, csrf = {"origin": owner.origin}, await token(owner)
        answer = await owner.http.post("/files", data={"csrf": csrf}, files=files, headers=headers)
        assert eu.sent_away, "nobody was sent away, so it proves nothing"
        assert answer.status_code == 503
        assert "Files cannot be stored right now." in answer.text
        assert int(answer.headers["retry-after"]) > 0
        assert not us.heard, f"a European file went to America: {bytes(us.heard[:200])!r}"
        eu.be_true()
        await file_there_and_back(world, owner, content)
    assert not us.heard


async def readings_from_a_file(world: World, owner: Client, content: str) -> None:
    made = await owner.submit("/indicators/new", name="Orders", description="", unit="")
    indicator = made.headers["location"].rpartition("/")[2]
    fields = {"zone": "UTC", "decimal": "point", "mode": "all", "indicator": indicator}
    files = {"file": (f"{content[-8:]}.csv", f"time,value\n2026-03-01,5\n# {content}\n".encode(), "text/csv")}
    answer = await owner.http.post(
        "/imports/new", data={"csrf": await token(owner), **fields}, files=files, headers={"origin": owner.origin}
    )
    assert answer.status_code == 303, answer.text
    identifier = UUID(answer.headers["location"].rpartition("/")[2])
    await until(world, "SELECT object_key IS NULL FROM imports WHERE id = $1", identifier)


async def copy_of_it_all(world: World, owner: Client, organization: UUID) -> tuple[str | None, str]:
    """The region and the path of the organization's own copy."""
    asked = await owner.submit("/organization/export")
    assert asked.status_code == 303, asked.text[:2_000]
    superuser = world.factory.superuser
    export = await superuser.fetchval("SELECT id FROM data_exports WHERE organization_id = $1", organization)
    await until(world, "SELECT state = 'ready' FROM data_exports WHERE id = $1", export)
    return split_key(await superuser.fetchval("SELECT key FROM data_exports WHERE id = $1", export))


async def until(world: World, question: str, identifier: UUID) -> None:
    for _ in range(1_200):
        if await world.factory.superuser.fetchval(question, identifier):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"it never was so: {question}")


async def token(owner: Client) -> str:
    page = await owner.page("/organization")
    return page.partition('name="csrf" value="')[2].partition('"')[0]


async def until_mail(sink: MailSink, address: str) -> Message:
    for _ in range(600):
        if found := sink.to(address):
            return found[0]
        await asyncio.sleep(0.05)
    raise AssertionError(f"no mail for {address}")


def declared(settings: Settings) -> set[tuple[str, int]]:
    """Where the settings say that anything may go."""
    urls = [
        *(value.get_secret_value() for value in (settings.database_url, settings.redis_url)),
        settings.stripe_api_base, settings.oidc_issuer, settings.scanner_url,
        settings.rates_api_base, settings.github_api_base, settings.plausible_api_base,
    ]  # fmt: skip
    for place in settings.places.values():
        urls += [place.storage_endpoint, place.smtp_url.get_secret_value()]
    return {(parts.hostname or "", parts.port or 0) for parts in map(urlsplit, urls)}


@pytest.mark.slow
async def test_an_eu_organization_never_reaches_an_american_endpoint(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    eu, us = world.regions["eu"], world.regions["us"]
    with recorded(THREADS) as connections, Tap(*us.store.target) as proxy:
        name_proxy(monkeypatch, proxy)
        european = await a_day(world, "eu")
        assert ("127.0.0.1", us.pool.port) not in connections, "no mail of a European day went to America"
        assert ("127.0.0.1", eu.pool.port) in connections, "the recorder hears mail"
        american = await a_day(world, "us")
        assert ("127.0.0.1", us.pool.port) in connections
        assert not proxy.heard, f"through a proxy of the environment went {bytes(proxy.heard[:200])!r}"
        undeclared = connections - declared(world.settings)
        assert not undeclared, f"{undeclared}: no setting names it; who asks there?"
        assert len(connections) >= 5, "database, Redis, scanner and two mail pools at least"
    monkeypatch.undo()
    for word in european.words:
        assert eu.knows(word), "the tap hears nothing, so it proves nothing"
        assert not us.knows(word), f"{word} of a European organization reached America"
    for word in american.words:
        assert us.knows(word)
        assert not eu.knows(word), f"{word} of an American organization reached the European store or mail pool"
    assert urlsplit(european.download).port == eu.store.port
    assert urlsplit(american.download).port == us.store.port

    await a_store_that_sends_away(world)
    # A person's own mail has no organization: it goes through the home region's pool, whatever they work for.
    person = await world.factory.person(password="nine silver spoons in a drawer")
    async with Client(world.factory.url) as browser:
        assert (await browser.submit("/forgot", email=person.email)).status_code == 303
    await until_mail(eu.mail, person.email)
    assert not us.mail.to(person.email)

    found = {finding.what: finding for finding in await examine(world.settings)}
    assert found["regions"].detail == "home is eu; us beside it"
    assert found["storage"].detail == "answers in eu, us"
    assert found["mail"].detail.count("accepts connections") == 2
    gone = world.settings.model_copy(update={"regions": {}})
    [finding] = [finding for finding in await examine(gone) if finding.what == "regions"]
    assert not finding.ok
    assert "us" in finding.detail
