"""Setting another password: forgotten, or changed while logged in. Either way every other session ends."""

from __future__ import annotations

from service.core.context import Context
from service.core.errors import Invalid
from service.features.accounts import queries
from service.features.accounts.actions._shared import (
    act_as,
    announce_mail,
    end_others,
    forget_sessions,
    lock_person,
    may_mail,
    open_link,
    refuse_weak,
)
from service.features.accounts.models import Purpose
from service.features.accounts.models.passwords import check_password, hash_password
from service.guardrails.actions import action
from service.guardrails.permissions import Who, demand


@action("accounts.request_reset", requires=Who.ANYONE)
async def request_reset(ctx: Context, email: str) -> None:
    """Send a link to choose another password, if there is such an account; the answer never tells."""
    known = await ctx.fetch_one(queries.KNOWN, email=email)
    wanted = await may_mail(ctx, email)
    announce_mail(ctx, known["id"] if known and wanted else None)


@action("accounts.reset_password", requires=Who.ANYONE)
async def reset_password(ctx: Context, link: str, password: str) -> None:
    """Choose another password with the mailed link. Proves the address, too; the second factor is still asked."""
    token, user = await open_link(ctx, link, Purpose.RESET)
    refuse_weak("password", password, user.email, user.name)
    user.set_password(await hash_password(password))
    user.verify_email()
    token.use()
    act_as(ctx, user)
    await forget_sessions(ctx, user)
    announce_mail(ctx, user.id)


@action("accounts.change_password", requires=Who.SIGNED_IN)
async def change_password(ctx: Context, current: str | None, password: str) -> str:
    """Another password, given the present one; without one (login elsewhere only), after a fresh proof. New cookie."""
    user = await lock_person(ctx)
    if user.password_hash is None:
        demand(ctx, "accounts.change_password", Who.SIGNED_IN, step_up=True)
    elif not (await check_password(current or "", user.password_hash))[0]:
        ctx.note("accounts.change_password", "failed")
        raise Invalid("Wrong password.", fields={"current": "This is not your present password."})
    refuse_weak("password", password, user.email, user.name)
    user.set_password(await hash_password(password))
    announce_mail(ctx, user.id)
    return await end_others(ctx, user)
