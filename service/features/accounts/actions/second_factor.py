"""Codes from an app as the second factor, and the recovery codes for when the phone is gone."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, Invalid
from service.features.accounts.actions._shared import announce_mail, end_others, lock_person
from service.features.accounts.models import RecoveryCode, User
from service.features.accounts.models.credentials import RECOVERY_CODES, hash_recovery_code, new_recovery_code
from service.guardrails.actions import action
from service.guardrails.permissions import Who
from service.guardrails.rate_limits import SECOND_FACTOR, refund, spend


@dataclass(frozen=True, slots=True)
class Secured:
    """The new session's cookie value and the recovery codes, which are never readable again."""

    token: str
    codes: list[str]


@action("accounts.offer_totp", requires=Who.SIGNED_IN, step_up=True)
async def offer_totp(ctx: Context) -> User:
    """Begin to set up: a secret to scan. Nothing changes until a code from it was entered."""
    user = await lock_person(ctx)
    if user.has_totp:
        raise Conflict("Codes are on already.", mend="Turn them off first to set up another phone.")
    user.offer_totp()
    return user


@action("accounts.confirm_totp", requires=Who.SIGNED_IN, step_up=True)
async def confirm_totp(ctx: Context, code: str) -> Secured:
    """The app works: from now on it is asked at every login, and sessions that began without it end."""
    user = await lock_person(ctx)
    if user.totp_secret is None or user.has_totp:
        raise Conflict("There is nothing to confirm.", mend="Begin to set up codes again.")
    await spend(ctx.resources, SECOND_FACTOR, subject=str(user.id))
    if not user.use_totp(code):
        raise Invalid("Wrong code.", fields={"code": "This is not the code of this moment. Check the phone's clock."})
    await refund(ctx.resources, SECOND_FACTOR, subject=str(user.id))
    user.totp_confirmed_at = clock.now()
    codes = await _replace_codes(ctx, user)
    announce_mail(ctx, user.id)
    return Secured(await end_others(ctx, user, proven="totp"), codes)


@action("accounts.remove_totp", requires=Who.SIGNED_IN, step_up=True)
async def remove_totp(ctx: Context) -> str:
    """Back to one factor; for a new phone, set up again afterwards. The new cookie value."""
    user = await lock_person(ctx)
    if not user.has_totp:
        raise Conflict("Codes are off already.")
    user.drop_totp()
    await _drop_codes(ctx, user)
    announce_mail(ctx, user.id)
    return await end_others(ctx, user)


@action("accounts.renew_recovery_codes", requires=Who.SIGNED_IN, step_up=True)
async def renew_recovery_codes(ctx: Context) -> list[str]:
    user = await lock_person(ctx)
    if not user.has_totp:
        raise Conflict("Recovery codes go with codes from an app, which are off.", mend="Set those up first.")
    announce_mail(ctx, user.id)
    return await _replace_codes(ctx, user)


async def _replace_codes(ctx: Context, user: User) -> list[str]:
    await _drop_codes(ctx, user)
    codes = [new_recovery_code() for _ in range(RECOVERY_CODES)]
    for code in codes:
        ctx.add(RecoveryCode(user_id=user.id, code_hash=hash_recovery_code(code)))
    return codes


async def _drop_codes(ctx: Context, user: User) -> None:
    for old in await ctx.db.scalars(select(RecoveryCode).where(RecoveryCode.user_id == user.id)):
        await ctx.db.delete(old)
    await ctx.db.flush()
