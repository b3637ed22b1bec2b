"""Name and address; leaving, and thirty days to think better of it.

A new address counts after its owner has confirmed it; the old one is told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sqlalchemy import String, cast, update
from sqlalchemy.exc import IntegrityError

from service.core.context import Context
from service.core.errors import Conflict, Invalid
from service.features.accounts.actions import _shared as shared
from service.features.accounts.models import OneTimeToken, Purpose, User
from service.guardrails import soft_delete
from service.guardrails.actions import action
from service.guardrails.former_addresses import FormerAddress
from service.guardrails.permissions import Who

before_deletion: list[Callable[[Context, User], Awaitable[None]]] = []
"""Features that must agree or tidy up; each may raise Conflict. Called in the deletion's transaction."""

before_restore: list[Callable[[Context, User], Awaitable[None]]] = []
"""Features that may forbid that a deleted account comes back, with Conflict; the account is locked."""


obstacles: list[Callable[[Context, User], Awaitable[None]]] = []
"""What would forbid it, asked without changing anything; each may raise Conflict."""


@action("accounts.change_name", requires=Who.SIGNED_IN)
async def change_name(ctx: Context, name: str) -> User:
    user = await shared.lock_person(ctx)
    user.name = name
    return user


@action("accounts.request_new_email", requires=Who.SIGNED_IN, step_up=True)
async def request_new_email(ctx: Context, email: str) -> None:
    """Send a link to the new address; the answer is the same when another account has it, whose owner is told."""
    user = await shared.lock_person(ctx)
    if email == user.email:
        raise Invalid("Nothing to change.", fields={"email": "This is your address already."})
    if await shared.may_mail(ctx, email):
        token = OneTimeToken.for_user(user, Purpose.CHANGE_EMAIL, other_email=email)
        ctx.add(token)
        shared.announce_mail(ctx, user.id)
        ctx.facts["token_id"] = str(token.id)


@action("accounts.confirm_new_email", requires=Who.ANYONE)
async def confirm_new_email(ctx: Context, link: str) -> User:
    """The new address becomes the address; by the link alone, whoever reads that mailbox is its owner."""
    token, user = await shared.open_link(ctx, link, Purpose.CHANGE_EMAIL)
    if token.other_email is None:
        raise Invalid(shared.DEAD_LINK)
    # A sign-up that nobody confirmed keeps nobody from the address; it is forgotten within a week.
    squatter = update(User).where(User.email == token.other_email, User.email_verified_at.is_(None))
    aside = squatter.where(User.deleted_at.is_(None)).values(email=cast(User.id, String) + "@unconfirmed.invalid")
    await ctx.db.execute(aside, execution_options={"synchronize_session": False})
    if user.is_verified:  # what was never confirmed may be somebody else's
        ctx.add(FormerAddress.of(user))
    user.email, token.other_email = token.other_email, user.email
    user.verify_email()
    token.use()
    try:
        await ctx.db.flush()
    except IntegrityError as error:
        raise Conflict("Another account has this address by now.", mend="Log in to that one instead.") from error
    shared.act_as(ctx, user)
    shared.announce_mail(ctx, user.id)
    ctx.facts["token_id"] = str(token.id)
    return user


@action("accounts.delete", requires=Who.SIGNED_IN, step_up=True)
async def delete_account(ctx: Context, typed_email: str) -> None:
    """Hide the account and end its sessions; a link in a mail brings it back for 30 days, then it is purged."""
    user = await shared.lock_person(ctx)
    if typed_email != user.email:
        raise Invalid("This is not your address.", fields={"email": "This is not the address of your account."})
    for agree in before_deletion:
        await agree(ctx, user)
    await soft_delete.delete(ctx, user)
    user.end_sessions()
    await shared.forget_sessions(ctx, user)
    shared.announce_mail(ctx, user.id)


@action("accounts.undo_deletion", requires=Who.ANYONE)
async def undo_deletion(ctx: Context, link: str) -> User:
    """Bring the account back as it was. Sessions stay ended: log in as ever."""
    token, user = await shared.open_link(ctx, link, Purpose.UNDO_DELETION)
    token.use()
    restored = await restore(ctx, user)
    shared.act_as(ctx, restored)
    shared.announce_mail(ctx, user.id)
    return restored


async def restore(ctx: Context, user: User) -> User:
    """Out of the bin again, if no feature minds."""
    for agree in before_restore:
        await agree(ctx, user)
    return await soft_delete.restore(ctx, User, user.id)
