"""`python -m service audit touched`: whose data a session, a key, an address or an account has touched, for a breach.

Reads the audit log as the maintenance role, across organizations: ids, kinds and times, nothing of what the rows hold.
The log's ids are in order of time, so the period is a stretch of its primary key, and is read in windows of six hours:
a day costs four short statements however long the log is. What was done to no record (a denied try) touched nobody.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from service.core import clock
from service.core.database import Database
from service.core.ids import uuid_in
from service.guardrails.addresses import region_of

WINDOW = timedelta(hours=6)
HAPPENED = ("done", "read")
SESSION = re.compile(r"[0-9a-f]{16}")
DEEDS = """
    SELECT id, at, organization_id, actor_kind, actor_id, on_behalf_of, action, outcome, object_type, object_id,
        session_ref, address_prefix, facts::text AS facts
    FROM audit_log
    WHERE id >= $1 AND id < $2
        AND ($3 = '' OR session_ref = $3) AND ($4 = '' OR address_prefix = $4)
        AND ($5::uuid IS NULL OR actor_id = $5 OR on_behalf_of = $5) AND ($6 = '' OR actor_kind = $6)
    ORDER BY id
"""


@dataclass(frozen=True, slots=True)
class Suspect:
    """Who or what is looked for; the empty ones do not count."""

    session: str = ""
    key: UUID | None = None
    address: str = ""
    actor: UUID | None = None

    def arguments(self) -> tuple[object, ...]:
        """Raises ValueError with a sentence for what finds nothing because it is misspelt."""
        if not (self.session or self.key or self.address or self.actor):
            raise ValueError("Say what to look for: --session, --key, --address or --actor.")
        if self.key and self.actor:
            raise ValueError("A key is an actor itself: give one of --key and --actor.")
        if self.session and not SESSION.fullmatch(self.session):
            raise ValueError("--session takes the 16 letters and digits that the log has, not the cookie.")
        network = region_of(self.address.partition("/")[0])
        if self.address and not network:
            raise ValueError("--address takes an IP address, such as 203.0.113.7.")
        return self.session, network, self.key or self.actor, "api_key" if self.key else ""


@dataclass(slots=True)
class Touched:
    """How many deeds each was touched by; `refused` is what was tried in vain."""

    organizations: Counter[UUID] = field(default_factory=Counter)
    persons: Counter[UUID] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    lists: Counter[str] = field(default_factory=Counter)
    """Rows of the panel's lists that staff were shown with people's data, or took away; 0 is a file broken off."""
    sessions: Counter[str] = field(default_factory=Counter)
    networks: Counter[str] = field(default_factory=Counter)
    actors: Counter[str] = field(default_factory=Counter)
    deeds: int = 0
    refused: int = 0
    first: datetime | None = None
    last: datetime | None = None

    def add(self, row: Any) -> None:
        self.first, self.last = self.first or row["at"], row["at"]
        self.sessions.update(filter(None, [row["session_ref"]]))
        self.networks.update(filter(None, [row["address_prefix"]]))
        self.actors.update([f"{row['actor_kind']}:{row['actor_id']}" if row["actor_id"] else row["actor_kind"]])
        if row["outcome"] not in HAPPENED:
            self.refused += 1
            return
        self.deeds += 1
        self.organizations.update(filter(None, [row["organization_id"]]))
        self.persons.update(set(_persons(row)))
        self.kinds[f"{row['object_type'] or '-'} by {row['action']}"] += 1
        self.lists.update(dict(_lists(row)))

    def lines(self) -> Iterator[str]:
        """Each line begins with its kind, for grep and for a list."""
        told: dict[str, Counter[Any]] = {
            "organization": self.organizations, "person": self.persons, "list": self.lists, "records": self.kinds,
            "session": self.sessions, "network": self.networks, "actor": self.actors,
        }  # fmt: skip
        for word, counted in told.items():
            for what, deeds in counted.most_common():
                yield f"{word} {what} {deeds}"
        when = f", from {self.first:%Y-%m-%d %H:%M} to {self.last:%Y-%m-%d %H:%M} UTC" if self.first else ""
        yield (
            f"{self.deeds} deeds in {len(self.organizations)} organizations, {len(self.persons)} persons, "
            f"{self.lists.total()} rows in lists of people's data, {self.refused} more in vain{when}"
        )


def _persons(row: Any) -> Iterator[UUID]:
    """Who acted or was acted for, whose account it was done to, and about whom staff read."""
    if row["actor_kind"] == "user" and row["actor_id"]:
        yield row["actor_id"]
    if row["on_behalf_of"]:
        yield row["on_behalf_of"]
    if row["object_type"] == "users" and row["object_id"]:
        yield row["object_id"]
    if found := uuid_in(str(orjson.loads(row["facts"]).get("account", ""))):
        yield found


def _lists(row: Any) -> Iterator[tuple[str, int]]:
    """A list with people's data in it, and its rows: as many as were shown, or went into the file."""
    if row["action"] in ("staff.read_personal", "staff.export", "staff.export_rows"):
        facts = orjson.loads(row["facts"])
        which = facts.get("listing") or (facts.get("about") if "rows" in facts else None)
        if which:
            yield which, facts.get("rows", 0)


async def touched(maintenance: Database, suspect: Suspect, since: datetime, until: datetime | None = None) -> Touched:
    """Everything in the log that was done so, within the period."""
    arguments, found, end = suspect.arguments(), Touched(), _utc(until or clock.now() + timedelta(minutes=1))
    place = _utc(since)
    while place < end:
        beyond = min(place + WINDOW, end)
        async with maintenance.unit_of_work(read_only=True) as work:
            for row in await work.raw.fetch(DEEDS, _first_of(place), _first_of(beyond), *arguments):
                found.add(row)
        place = beyond
    return found


def _utc(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _first_of(at: datetime) -> UUID:
    return UUID(int=int(at.timestamp() * 1000) << 80)
