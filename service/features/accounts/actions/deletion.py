"""Leaving, and thirty days to think better of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from service.core.context import Context
from service.core.errors import Invalid
from service.features.accounts import queries
from service.features.accounts.actions._shared import (
    act_as,
    announce_mail,
    forget_sessions,
    lock_person,
    may_mail,
    open_link,
)
from service.features.accounts.models import Purpose, User
from service.guardrails import soft_delete
from service.guardrails.actions import action
from service.guardrails.permissions import Who

before_deletion: list[Callable[[Context, User], Awaitable[None]]] = []
"""Features that must agree or tidy up; each may raise Conflict. Called in the deletion's transaction."""


@action("accounts.delete", requires=Who.SIGNED_IN, step_up=True)
async def delete_account(ctx: Context, typed_email: str) -> None:
    """Hide the account and end its sessions; a link in a mail brings it back for 30 days, then it is purged."""
    user = await lock_person(ctx)
    if typed_email != user.email:
        raise Invalid("This is not your address.", fields={"email": "This is not the address of your account."})
    for agree in before_deletion:
        await agree(ctx, user)
    await soft_delete.delete(ctx, user)
    user.end_sessions()
    await forget_sessions(ctx, user)
    announce_mail(ctx, user.id)


@action("accounts.request_recovery", requires=Who.ANYONE)
async def request_recovery(ctx: Context, email: str) -> None:
    """Send the link that brings a deleted account back, if there is one; the answer never tells."""
    known = await ctx.fetch_one(queries.KNOWN, email=email)
    wanted = await may_mail(ctx, email) and known is not None and known["deleted_at"] is not None
    announce_mail(ctx, known["id"] if known and wanted else None)


@action("accounts.undo_deletion", requires=Who.ANYONE)
async def undo_deletion(ctx: Context, link: str) -> User:
    """Bring the account back as it was. Sessions stay ended: log in as ever."""
    token, user = await open_link(ctx, link, Purpose.UNDO_DELETION)
    token.use()
    restored = await soft_delete.restore(ctx, User, user.id)
    act_as(ctx, restored)
    announce_mail(ctx, user.id)
    return restored
