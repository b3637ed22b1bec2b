"""Logging in with another provider. An address is never enough to get into an account that exists."""

from __future__ import annotations

from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import select

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, NotFound
from service.features.accounts.actions import _shared as shared
from service.features.accounts.actions._shared import Browser, Entrance
from service.features.accounts.models import ExternalIdentity, User
from service.features.accounts.schemas import ExternalProfile
from service.guardrails import switches
from service.guardrails.actions import action
from service.guardrails.permissions import Who
from service.integrations.identity import ExternalPerson


@action("accounts.log_in_with_identity", requires=Who.ANYONE, while_read_only=True)
async def log_in_with_identity(ctx: Context, person: ExternalPerson, browser: Browser) -> Entrance:
    """Log in who is connected, sign up who is new; whoever has an account here must log in to it and connect there."""
    user = await _connected(ctx, person)
    if user is not None and user.deleted_at is not None:
        raise Conflict("Your account is deleted.", mend="Bring it back first; the link on this page helps.")
    if user is None:
        user = await _sign_up(ctx, person)
    return await shared.enter(ctx, user, ("oidc",), browser)


@action("accounts.connect_identity", requires=Who.SIGNED_IN, step_up=True)
async def connect_identity(ctx: Context, person: ExternalPerson) -> ExternalIdentity:
    user = await shared.lock_person(ctx)
    owner = await _connected(ctx, person)
    if owner is not None:
        whose = "connected already" if owner.id == user.id else "connected to another account here"
        raise Conflict(f"This login is {whose}.", mend="Choose another login at the provider.")
    other = select(ExternalIdentity.id).where(
        ExternalIdentity.user_id == user.id, ExternalIdentity.issuer == person.issuer
    )
    if await ctx.db.scalar(other) is not None:
        raise Conflict("Another login of this provider is connected.", mend="Disconnect that one first.")
    identity = ExternalIdentity(user_id=user.id, issuer=person.issuer, subject=person.subject)
    ctx.add(identity)
    shared.announce_mail(ctx, user.id)
    return identity


@action("accounts.disconnect_identity", requires=Who.SIGNED_IN, step_up=True)
async def disconnect_identity(ctx: Context, identity_id: UUID) -> str:
    """A way in less: sessions that came through it end with it. The new cookie value."""
    user = await shared.lock_person(ctx)
    wanted = select(ExternalIdentity).where(ExternalIdentity.id == identity_id, ExternalIdentity.user_id == user.id)
    identity = await ctx.db.scalar(wanted.with_for_update())
    if identity is None:
        raise NotFound("There is no such connection.")
    if user.password_hash is None:
        raise Conflict("This is your only way in.", mend="Set a password first.")
    await ctx.db.delete(identity)
    shared.announce_mail(ctx, user.id)
    return await shared.end_others(ctx, user)


async def _connected(ctx: Context, person: ExternalPerson) -> User | None:
    wanted = (
        select(User)
        .join(ExternalIdentity, ExternalIdentity.user_id == User.id)
        .where(ExternalIdentity.issuer == person.issuer, ExternalIdentity.subject == person.subject)
    )
    found: User | None = await ctx.db.scalar(wanted, execution_options={"include_deleted": True})
    return found


async def _sign_up(ctx: Context, person: ExternalPerson) -> User:
    await switches.refuse_while_read_only(ctx)
    await shared.refuse_while_sign_ups_stopped(ctx)
    try:
        profile = ExternalProfile(email=person.email, name=person.name.strip() or person.email.partition("@")[0])
    except ValidationError:
        profile = None
    if profile is None or not person.email_verified:
        ctx.note("accounts.log_in_with_identity", "refused", reason="address not verified by the provider")
        raise Conflict(
            "The provider does not vouch for your e-mail address.",
            mend="Confirm the address there, or sign up here with a password and connect the login afterwards.",
        )
    # A sign-up that was never confirmed gives way. Its password may be a stranger's, who hoped that the owner of the
    # address would come this way: it is dropped.
    account = await shared.register(
        ctx, email=profile.email, name=profile.name, password_hash=None, password_changed_at=None,
        email_verified_at=clock.now(),
    )  # fmt: skip
    if account is None:
        ctx.note("accounts.log_in_with_identity", "refused", reason="the address has an account")
        raise Conflict(
            "There is an account with your e-mail address already.",
            mend="Log in to it with its password, then connect this login under Account, Security.",
        )
    ctx.add(ExternalIdentity(user_id=account, issuer=person.issuer, subject=person.subject))
    user = await shared.find_by_email(ctx, profile.email)
    assert user is not None  # noqa: S101 - written a moment ago in this transaction
    return user
