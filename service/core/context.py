"""Who acts, for which organization, in which transaction: passed explicitly to every action and query."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from service.core.database import Base, Database, UnitOfWork
from service.core.errors import NotFound
from service.core.settings import Settings
from service.core.statements import AnyPrepared

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""What changes nothing (RFC 9110, 9.2.1): answered read-only, without a CSRF token, under the limit for reads."""

T = TypeVar("T")
M = TypeVar("M", bound=Base)


class ActorKind(StrEnum):
    ANONYMOUS = "anonymous"
    USER = "user"
    STAFF = "staff"
    API_KEY = "api_key"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who is responsible for what happens; ids only, so that logs and the audit trail carry no personal data."""

    kind: ActorKind
    id: UUID | None = None

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}" if self.id else str(self.kind)


ANONYMOUS = Actor(ActorKind.ANONYMOUS)
SYSTEM = Actor(ActorKind.SYSTEM)


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a request came from. Jobs inherit the id of the request that enqueued them."""

    request_id: str
    address: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """Something an investigator will ask about: a denial, a failed login, a changed password."""

    action: str
    outcome: str
    actor: Actor
    organization_id: UUID | None
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Support:
    """What makes a session one of our staff in somebody's account; see guardrails.impersonation."""

    visit_id: UUID
    staff_id: UUID
    staff_epoch: int
    beside: str
    """The staff's own session, put aside: they are one, and end together."""
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Login:
    """The session behind a browser request, as stored in Redis; see guardrails.sessions."""

    key: str
    user_id: UUID
    organization_id: UUID | None
    created_at: datetime
    authenticated_at: datetime
    methods: tuple[str, ...]
    epoch: int
    csrf: str
    remembered: bool = False
    support: Support | None = None


class Access(StrEnum):
    FULL = "full"
    READ_ONLY = "read_only"


@dataclass(frozen=True, slots=True)
class Entitlements:
    """What an organization may use, as its plan has it; see guardrails.entitlements."""

    plan: str
    limits: Mapping[str, int]
    """By the words of guardrails.entitlements.Feature."""
    full_until: datetime | None = None
    valid_until: datetime | None = None
    organization_id: UUID | None = None

    def access(self, now: datetime) -> Access:
        return Access.READ_ONLY if self.full_until is not None and self.full_until <= now else Access.FULL


@dataclass(frozen=True, slots=True)
class Allowance:
    """Raises unless the plan has room for one more; provided by the composition root: core knows no guard rail."""

    ask: Callable[[Context, StrEnum, int], Awaitable[None]]


class Resources:
    """What lives as long as the process: settings, pools, clients. Made once, by the composition root."""

    def __init__(
        self, settings: Settings, database: Database, redis: Redis, maintenance: Database | None = None
    ) -> None:
        self.settings = settings
        self.database = database
        self.redis = redis
        self.maintenance = maintenance
        self._provided: dict[type, Any] = {}

    @property
    def as_maintenance(self) -> Database:
        """The database as the role that sees every organization; only workers and commands are given it."""
        if self.maintenance is None:
            raise RuntimeError("this process was not given the maintenance role")
        return self.maintenance

    def provide(self, kind: type[T], thing: T) -> None:
        self._provided[kind] = thing

    def get(self, kind: type[T]) -> T:
        """The thing provided under this type; a missing one is a mistake of the composition root."""
        thing: T = self._provided[kind]
        return thing


@dataclass(slots=True)
class Context:
    """One request's or job's world. `organization_id` is None on pages that belong to a person, not to a tenant."""

    work: UnitOfWork
    resources: Resources
    actor: Actor
    caller: Caller
    organization_id: UUID | None = None
    role: IntEnum | None = None
    login: Login | None = None
    scopes: frozenset[str] = frozenset()
    """What an API key may do; nobody else has any."""
    if_match: tuple[str, ...] = ()
    """The versions that the change may be based on; see guardrails.preconditions."""
    entitlements: Entitlements | None = None
    """The acting organization's; requests bring them, guardrails.entitlements.of asks for what is missing."""
    security_events: list[SecurityEvent] = field(default_factory=list)
    """Written in a transaction of their own after this one has ended, so that a rollback cannot erase them."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Details an action adds to its audit row and event."""
    on_behalf_of: Actor | None = None
    """Who set this in motion, when the actor is a job."""
    acted_by: Actor | None = None
    """Who of our staff really acts, while `actor` is the person in whose account they are."""

    emergency: bool = False
    """Whether whoever acts has emergency rights; see guardrails.break_glass."""

    @property
    def responsible(self) -> Actor:
        """Who answers for what is done: the one who really acts."""
        return self.acted_by or self.actor

    @property
    def db(self) -> AsyncSession:
        return self.work.session

    @property
    def settings(self) -> Settings:
        return self.resources.settings

    @property
    def person_id(self) -> UUID | None:
        """The acting person, for columns that refer to one: API keys and the system leave them empty."""
        return self.actor.id if self.actor.kind in (ActorKind.USER, ActorKind.STAFF) else None

    @property
    def tenant(self) -> UUID:
        """The acting organization; only for actions that require a role in one."""
        if self.organization_id is None:
            raise NotFound("There is no organization behind this request.")
        return self.organization_id

    @property
    def user_id(self) -> UUID:
        """The acting person; only for actions that require one."""
        if (person := self.person_id) is None:
            raise NotFound("There is no person behind this request.")
        return person

    def note(self, action: str, outcome: str, **facts: Any) -> None:
        """Remember a security event; it is written even when this transaction is rolled back."""
        self.security_events.append(SecurityEvent(action, outcome, self.actor, self.organization_id, facts))

    def deny(self, action: str) -> None:
        self.note(action, "denied")

    async def allow(self, feature: StrEnum, more: int = 1) -> None:
        """Go on only if the organization's plan has room for so many more; raises what guardrails.entitlements says."""
        await self.resources.get(Allowance).ask(self, feature, more)

    async def fetch(self, statement: AnyPrepared, /, **values: Any) -> list[asyncpg.Record]:
        return await self.work.fetch(statement, **values)

    async def fetch_one(self, statement: AnyPrepared, /, **values: Any) -> asyncpg.Record | None:
        return await self.work.fetch_one(statement, **values)

    async def get(self, model: type[M], identifier: UUID, *, lock: bool = True) -> M:
        """One row of the acting organization, locked for change.

        Another organization's, a deleted and a random id all raise the same NotFound. Always a SELECT: the identity
        map of `session.get` would hand out rows that the automatic filters hide.
        """
        statement = select(model).where(model.__table__.c.id == identifier)
        if lock:
            statement = statement.with_for_update()
        found = (await self.db.execute(statement)).scalar_one_or_none()
        if found is None:
            raise NotFound(f"There is no such {model.__name__.lower()}.")
        return found

    def add(self, thing: Base) -> None:
        self.db.add(thing)
