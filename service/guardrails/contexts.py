"""The type of a route's context parameter is its authentication policy; a route without one does not load.

    PublicCtx   anybody; `ctx.login` is None
    UserCtx     a person who is logged in
    Ctx         a person who is logged in, inside the organization they work in
    KeyCtx      a program with an API key, inside the key's organization: every route in an api.py, and no other
    StaffCtx    one of our own people, with a second factor and a fresh proof; for all others the address does not exist

Protects from: the route that is public because somebody forgot a parameter. Each opens the request's one transaction,
points row-level security at the person and organization, and commits BEFORE the answer leaves: with FastAPI's default
scope a failed commit was answered with 201 and the data was gone.

Safe methods (GET, HEAD) get a read-only transaction: a link that changes something cannot exist by accident.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import Depends
from starlette.datastructures import Headers
from starlette.requests import Request

from service.core import clock
from service.core.context import ANONYMOUS, SAFE_METHODS, Actor, ActorKind, Caller, Context, Login, Resources
from service.core.database import UnitOfWork, overload_is_unavailable
from service.core.errors import Conflict, NotAuthenticated, NotFound, TooManyRequests
from service.core.multipart import arriving
from service.guardrails import (
    api_keys,
    audit,
    browser,
    entitlements,
    gate,
    hipaa,
    impersonation,
    mailing,
    staff_door,
    strict_json,
    switches,
)
from service.guardrails.permissions import Role
from service.guardrails.uploads.bounds import STREAM, Stream

SHOWN = "shown_key"


@dataclass(frozen=True, slots=True)
class Identity:
    """The person behind a session as PostgreSQL knows them now: one statement per request, never cached."""

    user_id: UUID
    name: str
    email: str
    is_staff: bool
    session_epoch: int
    organization_id: UUID | None
    organization_name: str | None
    role: Role | None
    emergency: bool = False
    """Whether they have emergency rights at this moment (guardrails.break_glass)."""
    entitlement: Mapping[str, Any] | None = None
    """What the organization's plan says: the columns of guardrails.entitlements, empty without a row."""


Identify = Callable[[UnitOfWork, Login], Awaitable[Identity | None]]
"""Looks the session's person up; provided by the composition root so that guard rails know no product table."""


@dataclass(frozen=True, slots=True)
class Identifier:
    """The provided `Identify`, wrapped so that `Resources` can find it by type."""

    identify: Identify


class NoOrganization(Conflict):
    """The person belongs to no organization yet; pages send them to create one."""

    code, title = "no-organization", "No organization yet"
    default_mend = "Create an organization, or accept an invitation to one."
    meaning = "Whoever asks belongs to no organization, and everything here belongs to one."


def _caller(request: Request) -> Caller:
    state = request.scope["state"]
    return Caller(
        request_id=state["request_id"],
        address=state["address"],
        user_agent=request.headers.get("user-agent", "")[:200],
    )


def _resources(request: Request) -> Resources:
    found: Resources = request.app.state.resources
    return found


async def _public(request: Request) -> AsyncIterator[Context]:
    resources = _resources(request)
    await gate.enter(request, resources, identify=False)
    await browser.refuse_forgery(request, None, resources.settings)
    read_only = request.method in SAFE_METHODS
    async with resources.database.connection() as connection:
        work = UnitOfWork(connection)
        ctx = Context(work, resources, ANONYMOUS, _caller(request))
        async with transaction(ctx, tenant=None, user=None, read_only=read_only):
            request.scope["state"]["context"] = ctx
            yield ctx


@asynccontextmanager
async def _person(request: Request, *, checks_forgery: bool = True) -> AsyncIterator[Context]:
    """Whoever is logged in. Each dependency below opens it itself: FastAPI charges for every one that asks another."""
    resources = _resources(request)
    login = await gate.enter(request, resources)
    if login is None:
        raise NotAuthenticated("This needs a login.")
    if checks_forgery:
        await browser.refuse_forgery(request, login, resources.settings)
    if (stream := _stream(request)) is not None:
        stream.take_place(login.user_id)
    read_only = request.method in SAFE_METHODS
    async with resources.database.connection() as connection:
        work = UnitOfWork(connection)
        ctx = Context(work, resources, Actor(ActorKind.USER, login.user_id), _caller(request), login=login)
        impersonation.begin(ctx, login)
        async with transaction(ctx, tenant=login.organization_id, user=login.user_id, read_only=read_only):
            identity = await resources.get(Identifier).identify(work, login)
            # The epoch lives in PostgreSQL: revoking all sessions holds even when Redis lost the deletions.
            await impersonation.confirm(ctx, request.scope["state"], identity)
            if identity is None or identity.session_epoch != login.epoch:
                raise NotAuthenticated("This session has ended.")
            ctx.emergency |= identity.emergency
            if identity.is_staff:
                ctx.actor = Actor(ActorKind.STAFF, login.user_id)
            ctx.role, ctx.organization_id = identity.role, identity.organization_id
            if ctx.organization_id is not None:
                plans, row = resources.get(entitlements.Plans), identity.entitlement
                ctx.entitlements = entitlements.current(row, plans, clock.now(), ctx.organization_id)
            state = request.scope["state"]
            state.update(identity=identity, context=ctx, entitlements=ctx.entitlements)
            state["logs_off"] = hipaa.is_on(ctx.settings)
            state["second_factor_due"] = hipaa.insist_on_second_factor(ctx, request.url.path)
            state["switches"] = await switches.current(ctx)
            if _shows_menu(request):
                if ctx.role is not None:
                    state["counts"] = {href: await ask(ctx) for href, ask in request.app.state.counts.items()}
                if ctx.role in (Role.ADMIN, Role.OWNER) or identity.is_staff:
                    state["mail_late"] = await mailing.late_since(ctx)
            organization = str(ctx.organization_id or "")
            structlog.contextvars.bind_contextvars(actor=str(ctx.responsible), organization=organization)
            yield ctx


def _shows_menu(request: Request) -> bool:
    """Whether a browser may get a whole page for this: fragments have no menu to put numbers beside."""
    return "text/html" in request.headers.get("accept", "") and "hx-request" not in request.headers


def _stream(request: Request) -> Stream | None:
    """The file on its way, where the route takes one."""
    found: Stream | None = request.scope["state"].get(STREAM)
    return found


async def _shown(request: Request) -> api_keys.Shown:
    """The API key of the request, counted at the door; once, however often it is asked for."""
    state, resources = request.scope["state"], _resources(request)
    if SHOWN not in state:
        shown = api_keys.sent_with(request)
        await gate.enter(request, resources, identify=False, key=shown.digest.hex() if shown else "")
        if shown is None:
            problem = "This is not an API key of ours, or a part is missing."
            raise await api_keys.refusal(request, resources, None, problem)
        state[SHOWN] = shown
    found: api_keys.Shown = state[SHOWN]
    return found


async def admit_body(request: Request) -> None:
    """Read long JSON, or let a file begin, for a key that was believed; nothing is open while that takes its time.

    FastAPI reads a body before it asks any dependency, so the routes of the API call this first. A key that the door
    knows is believed once more afterwards: one that was ended has one document read, and is forgotten.
    """
    stream = _stream(request)
    if stream is None and strict_json.UNREAD not in request.scope["state"]:
        return
    resources, shown = _resources(request), await _shown(request)
    if stream is not None or not gate.knows_key(request.scope):
        async with resources.database.connection() as connection:
            ctx = Context(UnitOfWork(connection), resources, ANONYMOUS, _caller(request))
            async with transaction(ctx, tenant=shown.organization_id, user=None, read_only=True):
                key = await api_keys.believe(request, ctx, shown)
            if stream is not None:
                stream.take_place(key.id)
    if stream is None:
        await strict_json.check_long_json(request.scope)
    else:
        await arriving(request)


async def _program(request: Request) -> AsyncIterator[Context]:
    """Whoever shows an API key. No cookie is read, so nothing can be forged: a browser adds no key by itself."""
    resources, shown = _resources(request), await _shown(request)
    async with resources.database.connection() as connection:
        work, key = UnitOfWork(connection), None
        ctx = Context(work, resources, ANONYMOUS, _caller(request))
        try:
            async with transaction(
                ctx, tenant=shown.organization_id, user=None, read_only=request.method in SAFE_METHODS
            ):
                key = await api_keys.believe(request, ctx, shown)
                ctx.actor = Actor(ActorKind.API_KEY, key.id)
                ctx.role, ctx.scopes, ctx.organization_id = key.role, key.scopes, shown.organization_id
                plans, row = resources.get(entitlements.Plans), key.entitlement
                ctx.entitlements = entitlements.current(row, plans, clock.now(), ctx.organization_id)
                await gate.agree(request.scope, resources, ctx.entitlements, shown.digest.hex())
                request.scope["state"]["context"] = ctx
                structlog.contextvars.bind_contextvars(actor=str(ctx.actor), organization=str(ctx.organization_id))
                yield ctx
        finally:
            if key is not None and key.unused and not work.raw.is_closed():
                await api_keys.note_use(resources, UnitOfWork(connection), key.id, shown.organization_id)


@asynccontextmanager
async def transaction(ctx: Context, *, tenant: UUID | None, user: UUID | None, read_only: bool) -> AsyncIterator[None]:
    """Begin, hand out, commit or roll back, then write the security events in a transaction of their own."""
    work = ctx.work
    try:
        with overload_is_unavailable():
            await work.begin(tenant=tenant, user=user, read_only=read_only)
            yield
            await work.commit()
    finally:
        await work.close()
        if ctx.security_events:
            await audit.write_security_events(ctx)


async def _signed_in(request: Request) -> AsyncIterator[Context]:
    async with _person(request) as ctx:
        yield ctx


async def _in_organization(request: Request) -> AsyncIterator[Context]:
    async with _person(request) as ctx:
        if ctx.organization_id is None or ctx.role is None:
            raise NoOrganization("You do not belong to an organization.")
        yield ctx


async def _staff(request: Request) -> AsyncIterator[Context]:
    let_in = False
    try:
        async with _person(request, checks_forgery=False) as ctx:
            impersonation.refuse(ctx, "staff.enter", marked=False)
            staff_door.insist_on_staff(ctx)
            let_in = True
            await staff_door.admit(request, ctx)
            yield ctx
    except (NotAuthenticated, NotFound, hipaa.SecondFactorRequired, TooManyRequests) as error:
        if let_in or isinstance(error, impersonation.VisitOver) or staff_door.is_expected(request, error):
            raise
        raise staff_door.unknown(request) from error


@dataclass(frozen=True, slots=True)
class Signed:
    """A message from a program: not yet believed. No transaction is open and no limit counted: a flood of junk costs
    a hash each, and the sender behind the flood's address is heard all the same."""

    resources: Resources
    caller: Caller
    headers: Headers
    body: bytes


async def signed(request: Request) -> Signed:
    """The body as it came, in full: Shield bounds its size and time."""
    return Signed(_resources(request), _caller(request), request.headers, await request.body())


PublicCtx = Annotated[Context, Depends(_public, scope="function")]
UserCtx = Annotated[Context, Depends(_signed_in, scope="function")]
Ctx = Annotated[Context, Depends(_in_organization, scope="function")]
StaffCtx = Annotated[Context, Depends(_staff, scope="function")]
KeyCtx = Annotated[Context, Depends(_program, scope="function")]

POLICIES = {
    _public: "public", _signed_in: "user", _in_organization: "organization", _staff: "staff", _program: "key",
}  # fmt: skip
"""Dependency -> name of the policy; the architecture tests require exactly one per route."""
