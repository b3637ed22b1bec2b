"""Where one is logged in, and proving again that it is still the same person (step-up, ASVS 7.5.3)."""

from __future__ import annotations

from sqlalchemy import select

from service.core import clock
from service.core.context import Context
from service.core.errors import Forbidden, Invalid, NotFound
from service.features.accounts.actions._shared import end_others, lock_person, renew_session
from service.features.accounts.models import ExternalIdentity
from service.features.accounts.models.passwords import check_password
from service.guardrails import sessions
from service.guardrails.actions import action
from service.guardrails.permissions import Who
from service.integrations.identity import ExternalPerson

FRESH_SECONDS = 300
"""How old the provider's own login may be when it is to prove that the person is there now."""


@action("accounts.confirm_identity", requires=Who.SIGNED_IN, while_read_only=True)
async def confirm_identity(ctx: Context, password: str, code: str) -> str:
    """Prove by password, or by code where there is no password, that it is still you; the new cookie value."""
    user = await lock_person(ctx)
    if user.password_hash is not None:
        proven, field = "password", "password"
        right = (await check_password(password, user.password_hash))[0]
    else:
        proven, field = "totp", "code"
        right = user.has_totp and user.use_totp(code)
    if not right:
        ctx.note("accounts.confirm_identity", "failed")
        raise Invalid("That was not right.", fields={field: "That was not right. Try again."})
    return await renew_session(ctx, proven=proven)


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
    return await renew_session(ctx, proven="oidc")


@action("accounts.end_device", requires=Who.SIGNED_IN, while_read_only=True)
async def end_device(ctx: Context, key: str) -> None:
    if not await sessions.end_device(ctx.resources, ctx.user_id, key):
        raise NotFound("There is no such session.", mend="It has probably ended already.")


@action("accounts.end_other_sessions", requires=Who.SIGNED_IN)
async def end_other_sessions(ctx: Context) -> str:
    """Log out everywhere but here; the new cookie value."""
    user = await lock_person(ctx)
    return await end_others(ctx, user)
