"""What several actions do in the same way: find the person, open a mailed link, begin or renew a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import and_, select
from sqlalchemy.dialects.postgresql import insert

from service.core import clock
from service.core.context import Actor, ActorKind, Context, Login
from service.core.errors import Invalid, NotAuthenticated, TooManyRequests, Unavailable
from service.core.ids import new_id
from service.features.accounts.models import OneTimeToken, Purpose, User
from service.features.accounts.models.passwords import weakness
from service.guardrails import break_glass, rate_limits, sessions, switches
from service.guardrails.switches import Switch

DEAD_LINK = "This link does not work any more: it was used, it is too old, or something has changed since it was sent."


@dataclass(frozen=True, slots=True)
class Browser:
    """What the page knows of the browser that logs in: a known device's name, the session it already has."""

    device: str | None = None
    old_session: str | None = None


@dataclass(frozen=True, slots=True)
class Entrance:
    """How far a login has come: `token` is the new session's cookie value, or None while a code is still missing."""

    user_id: UUID
    email: str
    epoch: int
    methods: tuple[str, ...]
    remember: bool
    token: str | None = None


async def find_by_email(ctx: Context, email: str) -> User | None:
    found: User | None = await ctx.db.scalar(select(User).where(User.email == email))
    return found


async def register(ctx: Context, *, email: str, **values: Any) -> UUID | None:
    """Write a new account, or over a sign-up that was never confirmed; None where there is an account already."""
    fresh = insert(User).values(id=new_id(), email=email, created_at=clock.now(), **values)
    replaced = {name: fresh.excluded[name] for name in ("created_at", *values)}
    unconfirmed = (User.email_verified_at.is_(None), User.deleted_at.is_(None))
    statement = fresh.on_conflict_do_update(index_elements=["email"], set_=replaced, where=and_(*unconfirmed))
    account: UUID | None = await ctx.db.scalar(statement.returning(User.id))
    return account


async def lock_person(ctx: Context) -> User:
    """The acting person's own row."""
    return await ctx.get(User, ctx.user_id)


async def open_link(ctx: Context, link: str, purpose: Purpose) -> tuple[OneTimeToken, User]:
    """The token behind a mailed link and its person, both locked; Invalid for whatever is wrong with it."""
    token_id = OneTimeToken.id_in(link)
    if token_id is not None:
        everything = {"include_deleted": purpose is Purpose.UNDO_DELETION}
        wanted = select(OneTimeToken).where(OneTimeToken.id == token_id).with_for_update()
        token = await ctx.db.scalar(wanted)
        if token is not None:
            owner = select(User).where(User.id == token.user_id).with_for_update()
            user = await ctx.db.scalar(owner, execution_options=everything)
            if user is not None and token.opens(user, purpose):
                return token, user
    ctx.note("accounts.open_link", "failed", purpose=purpose.value)
    raise Invalid(DEAD_LINK, mend="Ask for a new one.")


async def enter(
    ctx: Context, user: User, methods: Sequence[str], browser: Browser, *, remember: bool = False
) -> Entrance:
    """Begin the session, or stop before the second factor when the account has one; every way in ends here."""
    if user.locked_at is not None:
        ctx.note("accounts.log_in", "refused", account=str(user.id), reason="locked")
        raise Invalid("This account is locked.", mend="Write to our support: they can tell you why and unlock it.")
    entrance = Entrance(user.id, user.email, user.session_epoch, tuple(methods), remember)
    asked = user.has_totp or await break_glass.find_open(ctx, user.id) is not None
    if asked and not {"totp", "recovery", break_glass.METHOD} & set(methods):
        ctx.facts["step"] = "needs a code"
        return entrance
    token, login = await sessions.begin(
        ctx.resources,
        user_id=user.id,
        organization_id=user.last_organization_id,
        epoch=user.session_epoch,
        methods=tuple(methods),
        caller=ctx.caller,
        remembered=remember,
        staff=user.is_staff,
        old=browser.old_session,
    )
    act_as(ctx, user)
    ctx.facts["methods"] = list(methods)
    return Entrance(user.id, user.email, user.session_epoch, tuple(methods), login.remembered, token)


def act_as(ctx: Context, user: User) -> None:
    """From here on the audit trail can say who it was."""
    ctx.actor = Actor(ActorKind.STAFF if user.is_staff else ActorKind.USER, user.id)


async def renew_session(ctx: Context, *, proven: str | None = None, **changes: Any) -> str:
    """A new id for the acting session, because its rights changed; the cookie value."""
    token, ctx.login = await sessions.rotate(ctx.resources, signed_in(ctx), proven=proven, **changes)
    return token


async def end_others(ctx: Context, user: User, *, proven: str | None = None, **changes: Any) -> str:
    """End every session but this one, for good: by the epoch in PostgreSQL first, then in Redis."""
    user.end_sessions()
    token = await renew_session(ctx, proven=proven, epoch=user.session_epoch, **changes)
    await sessions.end_all(ctx.resources, user.id, keep=ctx.login)
    return token


async def forget_sessions(ctx: Context, user: User) -> None:
    """Tidy up Redis after the epoch was raised; when Redis is away the epoch alone ends them."""
    try:
        await sessions.end_all(ctx.resources, user.id)
    except Unavailable:
        ctx.note("accounts.forget_sessions", "failed", reason="Redis is away; the epoch has ended them")


async def refuse_while_sign_ups_stopped(ctx: Context) -> None:
    """An operator's switch; accounts that exist are not touched by it."""
    if (reason := (await switches.current(ctx)).get(Switch.STOP_SIGN_UPS)) is not None:
        raise Unavailable(f"No new accounts are opened at the moment. {reason}".strip(), retry_after=3600)


def signed_in(ctx: Context) -> Login:
    if ctx.login is None:
        raise NotAuthenticated("This needs a login.")
    return ctx.login


def refuse_weak(field: str, password: str, *about: str) -> None:
    if problem := weakness(password, about=about):
        raise Invalid("This password will not do.", fields={field: problem})


async def may_mail(ctx: Context, email: str) -> bool:
    """Whether this address may get another mail now. A full mailbox limit is kept silent: it would tell who exists."""
    try:
        await rate_limits.spend(ctx.resources, rate_limits.MAIL, subject=email)
    except TooManyRequests:
        ctx.note("accounts.mail", "suppressed")
        return False
    return True


def announce_mail(ctx: Context, account: UUID | None) -> None:
    """Facts for this action's mail job: ids only. For an unknown address the same facts, with nobody in them."""
    ctx.facts |= {"account": str(account) if account else None, "asked_at": str(clock.now())}
