"""The only way into the API is a key: what it opens, what it does not, and what remains when it has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.sandbox.redis import EmbeddedRedis
from service.core import clock, telemetry
from service.core.context import Actor, ActorKind, Resources
from service.core.errors import Forbidden, TooManyRequests
from service.core.ids import new_id
from service.features.api_keys.models import ApiKey
from service.features.api_keys.queries import KEY_STORE
from service.guardrails import api_keys, gate, permissions
from service.guardrails.api_keys import ALPHABET, CHECK_WIDTH, PREFIX, hash_of, mint, parse
from service.guardrails.entitlements import Plans
from service.guardrails.permissions import Role
from service.guardrails.rate_limits import API, limit
from tests.guardrails.instances import instance, request
from tests.guardrails.playground import Playground
from tests.guardrails.test_gate import sent
from tests.support.client import Client
from tests.support.factories import Factory

INDICATORS = "/api/v1/indicators"
HOME = UUID("019a0000-0000-7000-8000-000000000001")


class Programs:
    """Programs of one organization, each on a machine with an address of its own."""

    def __init__(self, factory: Factory, stack: AsyncExitStack, organization: UUID) -> None:
        self.factory, self.stack, self.organization = factory, stack, organization

    async def start(self, key: str) -> Client:
        return await self.stack.enter_async_context(Client(self.factory.url, key=key))

    async def row(self, key: str) -> Any:
        return await self.factory.superuser.fetchrow("SELECT * FROM api_keys WHERE secret_hash = $1", hash_of(key))

    async def log(self) -> list[tuple[str, str, str, UUID]]:
        rows = await self.factory.superuser.fetch(
            "SELECT action, outcome, actor_kind, actor_id FROM audit_log WHERE organization_id = $1 ORDER BY id",
            self.organization,
        )
        return [tuple(row) for row in rows]


@pytest.fixture
async def programs(factory: Factory) -> AsyncIterator[Programs]:
    async with AsyncExitStack() as stack:
        yield Programs(factory, stack, await factory.organization())
    clock.reset()


# It works


def test_a_key_names_its_organization_and_is_one_word() -> None:
    key = mint(HOME)
    assert parse(key) == (HOME, hash_of(key))
    assert key.startswith(PREFIX)
    assert set(key.removeprefix(PREFIX)) <= set(ALPHABET)
    assert len({mint(HOME)[: api_keys.SHOWN] for _ in range(50)}) == 50, "what is shown tells keys apart"


@given(st.data())
def test_a_mistyped_key_is_known_without_asking_anybody(data: st.DataObject) -> None:
    key = mint(HOME)
    at = data.draw(st.integers(len(PREFIX), len(key) - 1))
    wrong = data.draw(st.sampled_from(ALPHABET.replace(key[at], "")))
    assert parse(key[:at] + wrong + key[at + 1 :]) is None
    assert parse(key[:at] + key[at + 1 :]) is None
    assert parse(key[:-1]) is parse(f"{key}0") is parse(f"sk_{key}") is None


@given(st.text(max_size=90))
def test_whatever_else_is_sent_is_no_key(text: str) -> None:
    assert parse(text) is parse(PREFIX + text) is None


async def test_a_program_acts_as_its_key_and_the_log_says_so(programs: Programs) -> None:
    key = await programs.factory.key(programs.organization, scopes=["indicators:read", "indicators:write"])
    program, key_id = await programs.start(key), (await programs.row(key))["id"]
    made = await program.api("POST", "/indicators", {"name": "By a program"})
    assert made.status_code == 201, made.text
    assert (await program.api("GET", f"/indicators/{made.json()['id']}")).status_code == 200
    assert (await program.api("DELETE", f"/indicators/{made.json()['id']}")).status_code == 204
    assert [(row[0], row[2], row[3]) for row in await programs.log()] == [
        ("indicators.create", "api_key", key_id),
        ("indicators.delete", "api_key", key_id),
    ]
    again = {"idempotency-key": "one"}
    answers = [await program.api("POST", "/indicators", {"name": "Once"}, **again) for _ in range(2)]
    assert answers[0].json() == answers[1].json()


async def test_its_use_is_noted_once_a_minute_and_never_waits(programs: Programs) -> None:
    key = await programs.factory.key(programs.organization)
    program = await programs.start(key)
    noted = []
    for seconds in (0, 30, 31):
        clock.advance(timedelta(seconds=seconds))
        assert (await program.api("GET", "/indicators")).status_code == 200
        noted.append((await programs.row(key))["last_used_at"])
    assert noted[0] == noted[1] < noted[2]
    clock.advance(timedelta(minutes=2))
    superuser = programs.factory.superuser
    async with superuser.transaction():
        await superuser.fetch("SELECT FROM api_keys WHERE secret_hash = $1 FOR UPDATE", hash_of(key))
        assert (await program.api("GET", "/indicators")).status_code == 200
        async with programs.factory.resources.database.unit_of_work(tenant=programs.organization) as work:
            await KEY_STORE.note_use(work, (await programs.row(key))["id"])  # would raise after its time of waiting
    assert (await programs.row(key))["last_used_at"] == noted[2], "somebody was busy with it"


async def test_finding_it_takes_one_statement_and_one_visit_to_redis(
    programs: Programs, here: Resources, factory: Factory
) -> None:
    key = await factory.key(programs.organization, last_used_at=clock.now())
    program, seen = await programs.start(key), list[str]()
    telemetry.statement_listeners.append(seen.append)
    try:
        await program.api("GET", "/organizations/current")
    finally:
        telemetry.statement_listeners.remove(seen.append)
    assert len([sql for sql in seen if "FROM api_keys" in sql]) == 1
    assert len([sql for sql in seen if "FROM organizations" in sql]) == 1
    shown = parse(key)
    assert shown is not None
    api = limit(API)(lambda: None)
    here.provide(Plans, factory.resources.get(Plans))
    await gate.enter(request(endpoint=api), here, identify=False, key=shown.digest.hex())
    async with here.redis.monitor() as monitor:
        await gate.enter(request(endpoint=api), here, identify=False, key=shown.digest.hex())
        await here.redis.ping()
        assert await sent(monitor) == ["EVALSHA"]


# The attack fails


async def test_a_cookie_opens_nothing_in_the_api_and_a_key_no_page(factory: Factory) -> None:
    owner, other = await factory.person(Role.OWNER), await factory.key(await factory.organization(), Role.OWNER)
    async with await factory.client(owner) as browser:
        for headers in ({}, {"x-csrf-token": browser.csrf}):
            refused = await browser.http.get(INDICATORS, headers=headers)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            told = refused.json()
            assert "The cookie of a login is ignored here." in told["detail"]
            assert "/api-keys" in told["mend"]
        forged = {"origin": "https://evil.test", "content-type": "application/json", "idempotency-key": "k"}
        assert (await browser.http.post(INDICATORS, content=b'{"name": "X"}', headers=forged)).status_code == 401
        mixed = await browser.http.get("/api/v1/organizations/current", headers={"authorization": f"Bearer {other}"})
        assert mixed.json()["id"] != str(owner.organization_id), "the key decides, whatever the cookie says"
    async with Client(factory.url, key=other) as program:
        page = await program.get("/members", headers=program.bearer)
        assert page.headers["location"].startswith("/login")


async def test_no_key_reaches_another_organization(programs: Programs) -> None:
    """Not even one that was put together anew around a foreign id, with a checksum that fits."""
    factory, victim = programs.factory, await programs.factory.organization()
    canary = str(await factory.indicator(victim, "canary-of-others"))
    key = await factory.key(programs.organization, Role.OWNER)
    program = await programs.start(key)
    everything = [
        await program.api("GET", path)
        for path in (
            "/indicators",
            "/indicators/dashboard",
            "/indicators?q=canary",
            "/audit_log",
            f"/indicators/{canary}",
        )
    ]
    assert "canary-of-others" not in "".join(answer.text for answer in everything)
    assert everything[-1].status_code == 404
    spliced = splice(key, victim)
    assert parse(spliced) is not None
    assert (await (await programs.start(spliced)).api("GET", "/indicators")).json()["detail"].startswith("There is no")


def splice(key: str, organization: UUID) -> str:
    """The random part of a key with another organization's id."""
    number = 0
    for character in key.removeprefix(PREFIX)[:-CHECK_WIDTH]:
        number = number * 62 + ALPHABET.index(character)
    body = api_keys._base62(number >> 128 << 128 | organization.int, api_keys.WIDTH)
    return f"{PREFIX}{body}{api_keys._checksum(body)}"


PAST, FUTURE = timedelta(minutes=-1), timedelta(hours=1)
ENDED = {
    "revoked": ({"revoked_at": PAST}, "This API key was revoked."),
    "expired": ({"expires_at": PAST}, "This API key has expired."),
    "replaced": ({"previous_until": PAST}, "This API key was replaced by a new one."),
    "overlapping": ({"previous_until": FUTURE}, ""),
    "deleted": ({}, "The organization of this API key was deleted."),
}


@pytest.mark.parametrize("how", ENDED)
async def test_an_ended_key_opens_nothing_and_its_use_stands_in_the_log(programs: Programs, how: str) -> None:
    factory, (columns, sentence) = programs.factory, ENDED[how]
    values: dict[str, Any] = {name: clock.now() + span for name, span in columns.items()}
    key = await factory.key(programs.organization, **values)
    program = await programs.start(key)
    if "previous_until" in values:
        await factory.superuser.execute(
            "UPDATE api_keys SET previous_hash = secret_hash, secret_hash = $2 WHERE secret_hash = $1",
            hash_of(key), hash_of(mint(programs.organization)),
        )  # fmt: skip
    if how == "deleted":
        await factory.superuser.execute(
            "UPDATE organizations SET deleted_at = now(), deletion_id = $2 WHERE id = $1",
            programs.organization,
            new_id(),
        )
    answer = await program.api("GET", "/indicators")
    if not sentence:
        assert answer.status_code == 200
        return
    assert (answer.status_code, answer.json()["detail"]) == (401, sentence)
    assert [row[:3] for row in await programs.log()] == [("api_keys.enter", "denied", "api_key")]


async def test_a_scope_that_it_lacks_is_named(programs: Programs) -> None:
    reader = await programs.start(await programs.factory.key(programs.organization, scopes=["indicators:read"]))
    writer = await programs.start(await programs.factory.key(programs.organization, scopes=["indicators:write"]))
    refused = await reader.api("POST", "/indicators", {"name": "No"})
    assert (refused.status_code, refused.json()["detail"]) == (403, "This API key lacks the scope indicators:write.")
    assert (await reader.api("GET", "/organizations/current")).status_code == 403
    assert (await writer.api("GET", "/indicators")).status_code == 403
    assert (await writer.api("POST", "/indicators", {"name": "Yes"})).status_code == 201


async def test_it_bites_without_the_scope_a_reader_writes(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permissions, "scope_of", lambda name, *, writes: "indicators:read")
    reader = await programs.start(await programs.factory.key(programs.organization, scopes=["indicators:read"]))
    assert (await reader.api("POST", "/indicators", {"name": "No"})).status_code == 201


async def test_what_asks_for_a_password_is_never_a_keys(playground: Playground) -> None:
    async with playground.context(await playground.organization()) as ctx:
        ctx.actor, ctx.role, ctx.scopes = Actor(ActorKind.API_KEY, new_id()), Role.OWNER, frozenset({"x:write"})
        permissions.demand(ctx, "x.delete", Role.OWNER)
        with pytest.raises(Forbidden, match="asks for a person"):
            permissions.demand(ctx, "x.delete", Role.OWNER, step_up=True)


@pytest.mark.parametrize(
    "headers",
    [[("authorization", "{key}")], [("authorization", "Basic {key}")], [("authorization", "Bearer {key}")] * 2,
     [("authorization", "Bearer {key}x")], [("authorization", "Bearer")], [("x-api-key", "{key}")]],
)  # fmt: skip
async def test_another_way_to_send_it_is_refused(programs: Programs, headers: list[tuple[str, str]]) -> None:
    key = await programs.factory.key(programs.organization)
    async with httpx.AsyncClient(base_url=programs.factory.url) as http:
        found = [(name, value.format(key=key)) for name, value in headers]
        assert (await http.get(INDICATORS, headers=found)).status_code == 401


async def test_whoever_goes_on_with_a_wrong_key_waits_and_disturbs_nobody(programs: Programs) -> None:
    key = await programs.factory.key(programs.organization)
    guesser = await programs.start(mint(programs.organization))
    codes = [(await guesser.api("GET", "/indicators")).status_code for _ in range(12)]
    assert codes[:10] == [401] * 10
    assert codes[-1] == 429
    guesser.key = key
    assert (await guesser.api("GET", "/indicators")).status_code == 200, "a right key from the same address"


async def test_while_redis_is_away_keys_work_and_guessing_gets_slower(tmp_path: Path, factory: Factory) -> None:
    """Keys live in PostgreSQL; the door counts in this process, and a tenth of the wrong tries is enough."""
    with EmbeddedRedis(tmp_path / "redis", durable=False) as redis:
        async with instance(redis) as here:
            here.provide(Plans, factory.resources.get(Plans))
            redis.kill()
            visit, shown = request(endpoint=limit(API)(lambda: None)), parse(mint(HOME))
            assert shown is not None
            visit.scope["headers"] = [(b"authorization", b"Bearer blst_x")]
            for _ in range(3):
                await gate.enter(visit, here, identify=False, key=shown.digest.hex())
            assert isinstance(await api_keys.refusal(visit, here, shown, "No."), api_keys.KeyRefused)
            with pytest.raises(TooManyRequests):
                await api_keys.refusal(visit, here, shown, "No.")


async def test_made_up_and_revoked_keys_use_up_nobodys_rate(programs: Programs) -> None:
    """A bucket per credential that is shown would be one that whoever shows it may fill, or escape."""
    factory = programs.factory
    good, leaked = await factory.key(programs.organization), await factory.key(programs.organization)
    program, thief = await programs.start(good), await programs.start(leaked)
    for client in (program, program, thief, thief):
        before = (await client.api("GET", "/indicators")).headers
    assert before["x-ratelimit-limit"] == "60"
    await factory.superuser.execute("UPDATE api_keys SET revoked_at = now() WHERE secret_hash = $1", hash_of(leaked))
    for _ in range(9):
        assert (await thief.api("GET", "/indicators")).status_code == 401
        stranger = await programs.start(mint(programs.organization))
        assert (await stranger.api("GET", "/indicators")).status_code == 401
    after = int((await program.api("GET", "/indicators")).headers["x-ratelimit-remaining"])
    assert after >= int(before["x-ratelimit-remaining"]) - 2, "one for the program, one for the thief's first try"


async def test_nothing_that_is_kept_opens_anything(programs: Programs) -> None:
    """Neither the row, nor what Redis knows, nor the log contains more than the beginning of a key."""
    key = await programs.factory.key(programs.organization)
    program = await programs.start(key)
    for path in ("/indicators", "/audit_log"):
        await program.api("GET", path)
    tail = key[api_keys.SHOWN :]
    row = await programs.row(key)
    assert tail not in str(dict(row))
    assert row["secret_hash"] == hash_of(key) != hash_of(key[:-1])
    assert tail not in str(await programs.log())
    assert {column.name for column in ApiKey.__table__.columns if column.name.endswith("hash")} == {
        "secret_hash", "previous_hash",
    }  # fmt: skip
