"""What is sealed opens in its own row and column only, and keys change while everybody goes on writing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table

from service.catalog import load_tables
from service.core import clock
from service.core.crypto import BadSignature, Keyring
from service.core.database import Database
from service.core.ids import new_id
from service.core.settings import Settings
from service.features.accounts.models import User
from service.features.sources.models import Source
from service.features.webhooks.models import Endpoint
from service.guardrails import resealing
from service.guardrails.inbox import InboxMessage, opened
from service.guardrails.resealing import MissingKeys, compare_with_noted, count_values, note_keys, reseal
from service.guardrails.sealed import place, seal, sealed, unseal
from tests.conftest import TEMPLATE, TestServers
from tests.support.forked import Forked
from tests.support.locks import WAITING

OLD, BOTH, NEW = Keyring("1:first secret"), Keyring("2:second secret,1:first secret"), Keyring("2:second secret")
TOTP = "users.totp_secret"


def test_what_was_kept_in_clear_is_handed_out_only_where_the_column_says_so() -> None:
    """Messages that came before their column was sealed are read until they are; elsewhere clear text is a forgery."""
    message, plain = ("stripe", "test", "evt_1"), b'{"id": "evt_1"}'
    assert unseal(InboxMessage.body, plain, *message) == plain
    kept = seal(InboxMessage.body, plain, *message)
    assert unseal(InboxMessage.body, kept, *message) == plain
    with pytest.raises(BadSignature):
        unseal(InboxMessage.body, kept, "stripe", "test", "evt_2")
    with pytest.raises(BadSignature):
        unseal(User.totp_secret, plain, new_id())


class World:
    """A database of its own: its keys change, and nobody else's rows with them."""

    def __init__(self, superuser: asyncpg.Connection[Any], maintenance: Database, urls: dict[str, str]) -> None:
        self.superuser, self.maintenance, self.urls = superuser, maintenance, urls

    async def person(self, secret: bytes = b"a secret", ring: Keyring = OLD) -> UUID:
        identifier = new_id()
        await self.superuser.execute(
            "INSERT INTO users (id, email, name, created_at, totp_secret) VALUES ($1, $2, 'P', $3, $4)",
            identifier, f"p{identifier.hex}@example.com", clock.now(),
            seal(User.totp_secret, secret, identifier, ring=ring),
        )  # fmt: skip
        return identifier

    async def secret(self, person: UUID, ring: Keyring) -> bytes:
        value = await self.superuser.fetchval("SELECT totp_secret FROM users WHERE id = $1", person)
        return unseal(User.totp_secret, value, person, ring=ring)

    async def counts(self) -> dict[int, Counter[str]]:
        async with self.maintenance.unit_of_work(read_only=True) as work:
            return await count_values(work.raw)

    def cli(self, *command: str, keys: str) -> Forked:
        return Forked(*command, environment={**os.environ, **self.urls, "ENCRYPTION_KEYS": keys})


@pytest.fixture
async def world(servers: TestServers, settings: Settings, worker_name: str) -> AsyncIterator[World]:
    load_tables()
    name = f"sealed_{worker_name}"
    servers.postgres.create_database(name, template=TEMPLATE)
    url = servers.postgres.url("ballast_maintenance", name)
    superuser = await asyncpg.connect(servers.postgres.url("postgres", name))
    maintenance = Database(url, settings, name="maintenance", size=2)
    app = servers.postgres.url("ballast_app", name)
    yield World(superuser, maintenance, {"DATABASE_MAINTENANCE_URL": url, "DATABASE_URL": app})
    await maintenance.dispose()
    await superuser.close()
    servers.postgres.drop_database(name)


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not await true():
            await asyncio.sleep(0.01)


def test_a_value_opens_in_its_own_place_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only because of its place: a ring that forgets it lets an attacker's second factor into another's row."""
    mine, theirs = new_id(), new_id()
    value = seal(User.totp_secret, "mine", mine)
    assert unseal(User.totp_secret, value, mine) == b"mine"
    for attribute, row in ((User.totp_secret, theirs), (Source.sealed_key, mine), (Endpoint.secret, mine)):
        with pytest.raises(BadSignature):
            unseal(attribute, value, row)
    other = seal(Endpoint.old_secret, "whsec", mine)
    with pytest.raises(BadSignature):
        unseal(Endpoint.secret, other, mine)
    # Two tables whose columns have one name.
    one, two = (
        Table(name, MetaData(), Column("id", Integer, primary_key=True), Column("value", LargeBinary, info=sealed({})))
        for name in ("one", "two")
    )
    with pytest.raises(BadSignature):
        unseal(two.c.value, seal(one.c.value, "a key", 1), 1)
    with pytest.raises(BadSignature):
        unseal(User.totp_secret, value[:-1] + bytes([value[-1] ^ 1]), mine)
    with pytest.raises(TypeError, match="is not sealed"):
        seal(User.name, "Ann", mine)
    with pytest.raises(TypeError, match="names its rows by source, realm, external_id"):
        seal(InboxMessage.body, b"{}", 1)
    moved = seal(Endpoint.secret, "whsec", mine)
    assert unseal(Endpoint.old_secret, moved, mine) == b"whsec", "rotated before old_secret had a place of its own"
    with pytest.raises(BadSignature):
        unseal(Endpoint.old_secret, moved, theirs)
    assert place(InboxMessage.body, "a", "b:c", "d") != place(InboxMessage.body, "a:b", "c", "d")
    monkeypatch.setattr("service.guardrails.sealed.place", lambda *_: "anywhere")
    assert unseal(User.totp_secret, seal(User.totp_secret, "mine", mine), theirs) == b"mine"


async def test_rotation_leaves_nothing_under_the_old_key(world: World) -> None:
    people = [await world.person(b"%d" % number) for number in range(7)]
    await world.superuser.execute(
        "INSERT INTO inbox (source, realm, external_id, type, facts, body, state, reason, attempts, received_at)"
        " VALUES ('stripe', 'r', 'evt_1', 't', '{}', $1, 'pending', '', 0, now())",
        b'{"from": "before it was sealed"}',
    )
    await note_keys(world.maintenance, OLD)
    with pytest.raises(MissingKeys, match=r"lacks key 1, which users\.totp_secret still needs"):
        await note_keys(world.maintenance, NEW)
    assert await reseal(world.maintenance, ring=BOTH, batch=3) == {TOTP: 7, "inbox.body": 1}
    assert await world.counts() == {2: {TOTP: 7, "inbox.body": 1}}
    assert [await world.secret(person, NEW) for person in people] == [b"%d" % number for number in range(7)]
    [row] = await world.superuser.fetch("SELECT source, realm, external_id, body FROM inbox")
    assert b"before" not in row["body"]
    with pytest.raises(BadSignature):
        opened(row)  # this process has another key 2, or none
    assert await note_keys(world.maintenance, NEW) == {2: ["inbox.body", TOTP]}
    assert not await reseal(world.maintenance, ring=BOTH), "a second run finds nothing to do"


async def test_what_opens_under_no_key_is_left_alone_and_stops_nobody(world: World) -> None:
    broken = [await world.person(ring=Keyring("1:somebody else's")) for _ in range(4)]
    good = await world.person()
    stranger = await world.person(ring=Keyring("9:removed"))
    assert await reseal(world.maintenance, ring=BOTH, batch=2) == {TOTP: 1}
    assert await world.secret(good, NEW) == b"a secret"
    for person in broken:
        assert await world.secret(person, Keyring("1:somebody else's")) == b"a secret"
    assert (await world.counts()).keys() == {1, 2, 9}
    assert await world.secret(stranger, Keyring("9:removed")) == b"a secret"
    with pytest.raises(MissingKeys, match="lacks key 9"):
        await note_keys(world.maintenance, BOTH)


async def test_web_compares_its_keys_with_what_a_worker_noted(world: World) -> None:
    await world.person()
    await note_keys(world.maintenance, OLD)
    async with world.maintenance.unit_of_work(read_only=True) as work:
        await compare_with_noted(work.raw, BOTH)
        with pytest.raises(MissingKeys, match="lacks key 1"):
            await compare_with_noted(work.raw, NEW)
        with pytest.raises(MissingKeys, match="is not the one that sealed"):
            await compare_with_noted(work.raw, Keyring("1:mistyped"))


async def test_a_worker_with_a_mistyped_secret_is_refused_and_locks_nobody_out(world: World) -> None:
    await world.person()
    with pytest.raises(MissingKeys, match="lacks key 1"):
        await note_keys(world.maintenance, NEW)  # knows that it is needed, not what it is
    await note_keys(world.maintenance, OLD)
    with pytest.raises(
        MissingKeys, match=r"key 1 .* is not the one that sealed users\.totp_secret: restore its secret"
    ):
        await note_keys(world.maintenance, Keyring("1:mistyped"))
    async with world.maintenance.unit_of_work(read_only=True) as work:
        await compare_with_noted(work.raw, OLD)
    assert await note_keys(world.maintenance, BOTH) == {1: [TOTP]}
    command = world.cli("keys", "rotate", keys="2:second secret,1:mistyped")
    assert "is not the one that sealed" in (await command.communicate())[1]
    command = world.cli("keys", "status", keys="1:mistyped")
    assert "is not the one that sealed" in (await command.communicate())[0]
    assert command.returncode == 1


async def test_many_that_cannot_be_read_do_not_hold_up_what_is_behind_them(world: World) -> None:
    """Not even when they fill a whole batch."""
    for _ in range(resealing.BATCH + 1):
        await world.person(ring=Keyring("1:somebody else's"))
    good = await world.person()
    assert await reseal(world.maintenance, ring=BOTH) == {TOTP: 1}
    assert await world.secret(good, NEW) == b"a secret"


async def test_a_key_is_spare_for_all_at_once(world: World) -> None:
    """Whoever reads that a key may be taken out, and does, need not wait for the worker before web starts."""
    await world.person()
    await note_keys(world.maintenance, OLD)
    await reseal(world.maintenance, ring=BOTH)
    told, _ = await world.cli("keys", "status", keys="2:second secret,1:first secret").communicate()
    assert "key 1: 0 values; may be taken out" in told
    async with world.maintenance.unit_of_work(read_only=True) as work:
        await compare_with_noted(work.raw, NEW)


@pytest.mark.parametrize("careful", [True, False], ids=["guarded", "bites"])
async def test_a_write_that_meets_the_rotation_is_not_lost(
    world: World, careful: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has not heard of the new key goes on writing under the old one, in the middle of a round."""
    if not careful:
        monkeypatch.setattr(resealing, "STALE", resealing.STALE.replace("FOR UPDATE SKIP LOCKED", ""))
        monkeypatch.setattr(resealing, "WRITE", resealing.WRITE.replace("{column} = $2", "$2::bytea IS NOT NULL"))
    busy, idle = await world.person(b"before"), await world.person(b"idle")
    writing = world.superuser.transaction()
    await writing.start()
    after = seal(User.totp_secret, "after", busy, ring=OLD)
    await world.superuser.execute("UPDATE users SET totp_secret = $2 WHERE id = $1", busy, after)
    rotating = asyncio.create_task(reseal(world.maintenance, ring=BOTH))

    async def stands() -> bool:
        return rotating.done() or bool(await world.superuser.fetchval(WAITING))

    await until(stands)
    await writing.commit()
    assert (await rotating)[TOTP] == (1 if careful else 2)
    assert await world.secret(busy, BOTH) == (b"after" if careful else b"before")
    assert await world.secret(idle, NEW) == b"idle"
    if careful:
        await reseal(world.maintenance, ring=BOTH)
        assert await world.secret(busy, NEW) == b"after"


async def test_a_rotation_that_is_killed_goes_on_where_it_stopped(world: World) -> None:
    """Through the command, with a real kill: half a round leaves nothing, the rounds before it stay."""
    people = [await world.person(b"%d" % number) for number in range(250)]
    await world.superuser.execute(
        "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF (SELECT count(*) FROM users WHERE substr(totp_secret, 1, 2) = '\\x0002') > 210 THEN"
        " PERFORM pg_advisory_xact_lock(77); END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER hold AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION hold();"
    )
    await world.superuser.execute("SELECT pg_advisory_lock(77)")
    keys = "2:second secret,1:first secret"
    command = world.cli("keys", "rotate", keys=keys)
    waits = f"{WAITING} AND locktype = 'advisory'"
    await until(lambda: world.superuser.fetchval(waits))
    command.send_signal(signal.SIGKILL)
    await command.communicate()
    await world.superuser.execute("SELECT pg_advisory_unlock(77); DROP TRIGGER hold ON users")

    assert {key: sum(counted.values()) for key, counted in (await world.counts()).items()} == {1: 50, 2: 200}
    told, _ = await world.cli("keys", "status", keys=keys).communicate()
    assert "key 2: 200 values (users.totp_secret 200); seals what is written" in told
    assert "key 1: 50 values (users.totp_secret 50); must stay for now" in told
    without = world.cli("keys", "status", keys="2:second secret")
    assert "key 1: 50 values (users.totp_secret 50); MISSING" in (await without.communicate())[0]
    assert without.returncode == 1
    told, _ = await world.cli("keys", "rotate", keys=keys).communicate()
    assert told.endswith("\n50 values are under another key now\n")
    assert [await world.secret(person, NEW) for person in people] == [b"%d" % number for number in range(250)]
    refused = world.cli("serve", "--port", "0", keys="1:first secret")
    told, _ = await asyncio.wait_for(refused.communicate(), 60)
    assert refused.returncode != 0
    assert "ENCRYPTION_KEYS lacks key 2, which users.totp_secret still needs: put it back" in told
