"""What proves who one is: password, codes from an app, sessions, and proving it again (step-up, ASVS 7.5.3)."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, Forbidden, Invalid, NotFound
from service.features.accounts.actions import _shared as shared
from service.features.accounts.models import ExternalIdentity, RecoveryCode, User
from service.features.accounts.models.credentials import RECOVERY_CODES, hash_recovery_code, new_recovery_code
from service.features.accounts.models.passwords import check_password, hash_password
from service.guardrails import sessions
from service.guardrails.actions import action
from service.guardrails.permissions import Who, demand
from service.guardrails.rate_limits import SECOND_FACTOR, refund, spend
from service.integrations.identity import ExternalPerson

FRESH_SECONDS = 300
"""How old the provider's own login may be when it is to prove that the person is there now."""


@dataclass(frozen=True, slots=True)
class Secured:
    """The new session's cookie value and the recovery codes, which are never readable again."""

    token: str
    codes: list[str]


@action("accounts.change_password", requires=Who.SIGNED_IN)
async def change_password(ctx: Context, current: str | None, password: str) -> str:
    """Another password, given the present one; without one (login elsewhere only), after a fresh proof. New cookie."""
    user = await shared.lock_person(ctx)
    if user.password_hash is None:
        demand(ctx, "accounts.change_password", Who.SIGNED_IN, step_up=True)
    elif not (await check_password(current or "", user.password_hash))[0]:
        ctx.note("accounts.change_password", "failed")
        raise Invalid("Wrong password.", fields={"current": "This is not your present password."})
    shared.refuse_weak("password", password, user.email, user.name)
    user.set_password(await hash_password(password))
    shared.announce_mail(ctx, user.id)
    return await shared.end_others(ctx, user)


@action("accounts.offer_totp", requires=Who.SIGNED_IN, step_up=True)
async def offer_totp(ctx: Context) -> User:
    """Begin to set up: a secret to scan. Nothing changes until a code from it was entered."""
    user = await _lock_person_but_staff(ctx)
    if user.has_totp:
        raise Conflict("Codes are on already.", mend="Turn them off first to set up another phone.")
    user.offer_totp()
    return user


@action("accounts.confirm_totp", requires=Who.SIGNED_IN, step_up=True)
async def confirm_totp(ctx: Context, code: str) -> Secured:
    """The app works: from now on it is asked at every login, and sessions that began without it end."""
    user = await _lock_person_but_staff(ctx)
    if user.totp_secret is None or user.has_totp:
        raise Conflict("There is nothing to confirm.", mend="Begin to set up codes again.")
    await spend(ctx.resources, SECOND_FACTOR, subject=str(user.id))
    if not user.use_totp(code):
        raise Invalid("Wrong code.", fields={"code": "This is not the code of this moment. Check the phone's clock."})
    await refund(ctx.resources, SECOND_FACTOR, subject=str(user.id))
    user.totp_confirmed_at = clock.now()
    codes = await _replace_codes(ctx, user)
    shared.announce_mail(ctx, user.id)
    return Secured(await shared.end_others(ctx, user, proven="totp"), codes)


@action("accounts.remove_totp", requires=Who.SIGNED_IN, step_up=True)
async def remove_totp(ctx: Context) -> str:
    """Back to one factor; for a new phone, set up again afterwards. The new cookie value."""
    user = await _lock_person_but_staff(ctx)
    if not user.has_totp:
        raise Conflict("Codes are off already.")
    user.drop_totp()
    await drop_codes(ctx, user)
    shared.announce_mail(ctx, user.id)
    left = tuple(method for method in shared.signed_in(ctx).methods if method != "totp")
    return await shared.end_others(ctx, user, methods=left)


@action("accounts.renew_recovery_codes", requires=Who.SIGNED_IN, step_up=True)
async def renew_recovery_codes(ctx: Context) -> list[str]:
    user = await shared.lock_person(ctx)
    if not user.has_totp:
        raise Conflict("Recovery codes go with codes from an app, which are off.", mend="Set those up first.")
    shared.announce_mail(ctx, user.id)
    return await _replace_codes(ctx, user)


@action("accounts.confirm_identity", requires=Who.SIGNED_IN, while_read_only=True)
async def confirm_identity(ctx: Context, proof: str) -> str:
    """Prove by password, or by code where there is no password, that it is still you; the new cookie value."""
    user = await shared.lock_person(ctx)
    if user.password_hash is not None:
        method, right = "password", (await check_password(proof, user.password_hash))[0]
    else:
        method, right = "totp", user.has_totp and user.use_totp(proof)
    if not right:
        ctx.note("accounts.confirm_identity", "failed")
        raise Invalid("That was not right.", fields={"proof": "That was not right. Try again."})
    return await shared.renew_session(ctx, proven=method)


@action("accounts.confirm_with_provider", requires=Who.SIGNED_IN, while_read_only=True)
async def confirm_with_provider(ctx: Context, person: ExternalPerson) -> str:
    """Prove it by logging in at the connected provider again, a moment ago and as the same person."""
    mine = select(ExternalIdentity.id).where(
        ExternalIdentity.user_id == ctx.user_id,
        ExternalIdentity.issuer == person.issuer,
        ExternalIdentity.subject == person.subject,
    )
    fresh = abs(clock.now().timestamp() - person.authenticated_at) <= FRESH_SECONDS
    if not fresh or await ctx.db.scalar(mine) is None:
        ctx.note("accounts.confirm_with_provider", "failed")
        raise Forbidden("The provider did not confirm that it is you.", mend="Log in there as yourself, and again now.")
    return await shared.renew_session(ctx, proven="oidc")


@action("accounts.end_device", requires=Who.SIGNED_IN, step_up=True, while_read_only=True)
async def end_device(ctx: Context, key: str) -> None:
    if not await sessions.end_device(ctx.resources, ctx.user_id, key):
        raise NotFound("There is no such session.", mend="It has probably ended already.")


@action("accounts.end_other_sessions", requires=Who.SIGNED_IN, step_up=True)
async def end_other_sessions(ctx: Context) -> str:
    """Log out everywhere but here; the new cookie value."""
    user = await shared.lock_person(ctx)
    return await shared.end_others(ctx, user)


async def _lock_person_but_staff(ctx: Context) -> User:
    """A stolen password or session of staff must not bring a second factor of its own."""
    user = await shared.lock_person(ctx)
    if user.is_staff:
        raise Conflict(
            "Staff cannot turn codes on or off.",
            mend="Ask an operator to take you off the staff, change your codes, and ask to be added again.",
        )
    return user


async def _replace_codes(ctx: Context, user: User) -> list[str]:
    await drop_codes(ctx, user)
    codes = [new_recovery_code() for _ in range(RECOVERY_CODES)]
    for code in codes:
        ctx.add(RecoveryCode(user_id=user.id, code_hash=hash_recovery_code(code)))
    return codes


async def drop_codes(ctx: Context, user: User) -> None:
    await ctx.db.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
