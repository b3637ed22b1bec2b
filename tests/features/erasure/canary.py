"""Puts a token that exists nowhere else into every personal place, and looks for it everywhere afterwards."""

from __future__ import annotations

import base64
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
from redis.asyncio import Redis
from sqlalchemy import Boolean, Column, DateTime, Enum, LargeBinary, Numeric, String, Table, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from starlette.responses import Response

from service.core import clock
from service.core.context import Actor, ActorKind, Caller, Context, Login, Resources
from service.core.database import Base
from service.core.ids import new_id
from service.core.regions import split_key
from service.guardrails import before_login, staff_reasons
from service.guardrails.audit import AuditRow
from service.guardrails.data_map import STORES, Kind
from service.guardrails.former_addresses import FormerAddress
from service.guardrails.personal_data import Erasure, Protection, privacy_of, protection_of
from service.guardrails.rate_limits import target_of
from service.guardrails.sealed import seal
from service.guardrails.subjects import By, Person, address_hash, personal_tables, subject_of
from service.integrations.storage import Storage

BY_HAND = {"users", "memberships", "audit_log", "erasure_requests", "erasure_steps"}
"""The account and its places, which a test has made already, and what only actions write."""
UNPLANTED = {
    (Kind.OBJECTS, "erasures"): "only an erasure writes one; test_a_ledger_entry_says_nothing_about_anybody reads it",
}
"""What the map calls personal, of Redis and the store, and nothing is planted in before the erasure; each with why."""
LETTER = """
    INSERT INTO erasure_requests (id, user_id, state, source, reason, held, email, requested_at, finished_at)
    VALUES ($1, $2, 'refused', 'staff', $3, $3, $3, $4, $4)
"""
"""An earlier request that was refused: what staff wrote about it, they wrote about the person."""
NUMBERS = count(20_000)
"""Above what a sequence has given out, and small enough for the smallest column."""
WORDS = {"mail_suppressions.cause": "unsubscribed"}
PERSONAL = (Protection.PERSONAL, Protection.SECRET)
COLUMNS = """
    SELECT table_name AS at, column_name AS name, data_type AS type FROM information_schema.columns
    WHERE table_schema = 'public' AND (data_type IN ('text', 'character varying', 'json', 'jsonb', 'bytea', 'ARRAY'))
"""


async def plant(raw: asyncpg.Connection[Any], person: Person, token: str, organization: UUID) -> set[str]:
    """A row of the person in every table that holds rows of people, the token in each of its personal columns."""
    planted = set()
    marks = {
        column.name: value
        for column in Base.metadata.tables["users"].columns
        if protection_of(column) in PERSONAL and (value := _token(column, token)) and column.name != "email"
    }
    await _update(raw, "users", marks, person.id)
    async with raw.transaction():
        # Keys are not what is tested here: a row of each table, whatever else it would belong to.
        await raw.execute("SET LOCAL session_replication_role = replica")
        for table in personal_tables(Base.metadata):
            if table.name in BY_HAND:
                continue
            values = _row(table, person, token, organization)
            names, places = ", ".join(values), ", ".join(f"${n + 1}" for n in range(len(values)))
            extra = " OVERRIDING SYSTEM VALUE" if table.name == "inbox" else ""
            await raw.execute(f"INSERT INTO {table.name} ({names}){extra} VALUES ({places})", *values.values())
            planted.add(table.name)
    # One that is over: as long as it holds, nobody is erased.
    await raw.execute("UPDATE legal_holds SET lifted_at = now() WHERE subject_id = $1", person.id)
    await raw.execute(LETTER, new_id(), person.id, token, clock.now())
    return planted


async def plant_in_redis(resources: Resources, token: str) -> None:
    """A half-finished login, and a colleague's reason to look at the person: each where and for as long as it lives."""
    await before_login.hold(resources, Response(), "canary", {"email": f"{token}@example.com"})
    now, staff = clock.now(), uuid4()
    login = Login("key", staff, None, now, now, (), 0, "csrf")
    async with resources.database.unit_of_work(tenant=None) as work:
        ctx = Context(work, resources, Actor(ActorKind.STAFF, staff), Caller("test"), login=login)
        await staff_reasons.keep(ctx, "/staff/people", f"Called about {token}")


def marks(person: Person, token: str, organization: UUID) -> tuple[str, ...]:
    """By what a key or an object may know the person: the token, their number, the hash of their address; or, by an
    API key, the organization that is theirs alone."""
    return token, person.id.hex, target_of(person.emails[0]), organization.hex


async def compare_with_the_map(resources: Resources, *marks: str) -> None:
    """Every family of Redis keys and of objects that the map calls personal holds a trace, as every table does."""
    personal = {at for at, store in STORES.items() if at[0] in (Kind.REDIS, Kind.OBJECTS) and store.is_personal}
    space = f"{resources.settings.redis_namespace}:"
    keys = await in_redis(resources.redis, *marks, match=f"{space}*")
    found = {(Kind.REDIS, key.removeprefix(space).partition(":")[0]) for key in keys}
    found |= {(Kind.OBJECTS, split_key(key)[1].partition("/")[0]) for key in await in_store(resources, *marks)}
    wrong = [f"{kind} {name}" for kind, name in sorted((personal & found) ^ (personal - UNPLANTED.keys()))]
    assert not wrong, f"{wrong}: plant a trace of the person there, or say in UNPLANTED why not; never both"
    assert personal >= UNPLANTED.keys(), f"the map does not call all of {[*UNPLANTED]} personal"


def _row(table: Table, person: Person, token: str, organization: UUID) -> dict[str, Any]:
    subject, values = subject_of(table), dict[str, Any]()
    for column in table.columns:
        values[column.name] = (
            organization if column.name == "organization_id"
            else _token(column, token) if protection_of(column) in PERSONAL
            else None if column.nullable and not column.primary_key
            else _plain(column)
        )  # fmt: skip
    if subject is not None:
        values[subject.column] = {
            By.ID: person.id,
            By.EMAIL: person.emails[0],
            By.ADDRESS_HASH: address_hash(person.emails[0]),
            By.MENTION: f'{{"email": "{person.emails[-1]}"}}'.encode(),
        }[subject.by]
    if table.name == FormerAddress.__tablename__:
        values["email"] = seal(FormerAddress.email, person.emails[-1], values["id"])
    return values


def _token(column: Column[Any], token: str) -> Any:
    kind = column.type
    if isinstance(kind, LargeBinary):
        return token.encode()
    if isinstance(kind, JSONB):
        return f'{{"x": "{token}"}}'
    if isinstance(kind, ARRAY):
        return [token]
    return token if isinstance(kind, String) else _plain(column)


def _plain(column: Column[Any]) -> Any:
    kind = column.type
    if isinstance(kind, Enum):
        return kind.enums[0]
    for of, value in (
        (Uuid, uuid4()), (DateTime, clock.now()), (Boolean, False), (LargeBinary, b"x"), (JSONB, "{}"), (ARRAY, []),
        (Numeric, next(NUMBERS)), (String, WORDS.get(str(column)) or f"{column.name[:7]}-{uuid4().hex[:8]}"),
    ):  # fmt: skip
        if isinstance(kind, of):
            return value
    return next(NUMBERS)


async def _update(raw: asyncpg.Connection[Any], table: str, values: dict[str, Any], identifier: UUID) -> None:
    sets = ", ".join(f"{name} = ${n + 2}" for n, name in enumerate(values))
    await raw.execute(f"UPDATE {table} SET {sets} WHERE id = $1", identifier, *values.values())


async def in_tables(raw: asyncpg.Connection[Any], token: str) -> set[str]:
    """Every column of the database, ours or a library's, in which the token stands: as text, bytes, hex or base64."""
    found = set()
    for row in await raw.fetch(COLUMNS):
        at, name = row["at"], row["name"]
        sought = f"position($1::text::bytea IN {name}) > 0" if row["type"] == "bytea" else f"{name}::text ILIKE $1"
        wanted = token if row["type"] == "bytea" else f"%{token}%"
        if await raw.fetchval(f"SELECT true FROM {at} WHERE {sought} LIMIT 1", wanted):
            found.add(f"{at}.{name}")
    return found


async def in_redis(redis: Redis, *tokens: str, within: timedelta = timedelta(), match: str = "*") -> set[str]:
    """Keys with what is behind them, read as what they are: a dump may be compressed. Redis has a clock of its own,
    which no test moves: what ends by itself `within` this time counts as gone."""
    found = set()
    async for key in redis.scan_iter(match=match, count=1_000):
        left = await redis.pttl(key)
        if 0 <= left <= within / timedelta(milliseconds=1):
            continue
        kind: Any = await redis.type(key)
        text = f"{key.decode('utf-8', 'replace')} {await READ[kind.decode()](redis, key)}"
        if any(token in text for token in tokens):
            found.add(key.decode("utf-8", "replace"))
    return found


async def _gone(*_: Any) -> None:
    """Between the scan and this look."""


READ: dict[str, Callable[[Any, bytes], Any]] = {
    "string": lambda redis, key: redis.get(key),
    "hash": lambda redis, key: redis.hgetall(key),
    "set": lambda redis, key: redis.smembers(key),
    "zset": lambda redis, key: redis.zrange(key, 0, -1),
    "list": lambda redis, key: redis.lrange(key, 0, -1),
    "stream": lambda redis, key: redis.xrange(key),
    "none": _gone,
}
"""How to read each type there is; another one raises KeyError."""


async def in_store(resources: Resources, *tokens: str) -> set[str]:
    storage, found = resources.get(Storage), set()
    async for one in storage.walk(""):
        content = b"".join([part async for part in storage.get(one.key)])
        if any(token in one.key or token.encode() in content for token in tokens):
            found.add(one.key)
    return found


def owed() -> set[str]:
    """What of the planted belongs into the person's copy, as the map says; what opens a door never does."""
    tables = [table for table in personal_tables(Base.metadata) if table.name != AuditRow.__tablename__]
    return {
        str(column)
        for table in tables
        if (subject := subject_of(table)) is None or subject.by is not By.MENTION
        for column in table.columns
        if protection_of(column) is Protection.PERSONAL and (held := privacy_of(column)) is not None and held.export
    }


def in_copy(archive: zipfile.ZipFile, token: str) -> Counter[str]:
    """How many rows of which column bear the token; whatever is no row, under the name of its file."""
    found = Counter[str]()
    for name in archive.namelist():
        text = archive.read(name).decode()
        rows = orjson.loads(text) if name.endswith(".json") else None
        if not isinstance(rows, list):
            found[name] += token in text
            continue
        for row in rows:
            found.update(f"{name.removesuffix('.json')}.{column}" for column in row if token in _readable(row[column]))
    return +found


def _readable(value: Any) -> str:
    """Bytes are in base64 there."""
    if isinstance(value, str):
        with suppress(ValueError):
            return f"{value} {base64.b64decode(value, validate=True).decode('latin-1')}"
    return str(value)


def kept() -> set[str]:
    """Where the map lets something outlive the person, with its reason; no personal column is among it."""
    return {
        str(column)
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if (held := privacy_of(column)) is not None and held.erasure is Erasure.KEEP and held.because
    }
