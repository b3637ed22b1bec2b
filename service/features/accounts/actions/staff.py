"""Who is staff. Decided on the command line only, for accounts that have a second factor already.

A phished password of a colleague without one was once enough: its thief set up codes of their own, and was staff.
"""

from __future__ import annotations

from sqlalchemy import select

from service.core.context import Context
from service.core.errors import Conflict, NotFound
from service.features.accounts.actions import _shared as shared
from service.features.accounts.models import User
from service.guardrails.actions import action
from service.guardrails.permissions import Who


@action("accounts.add_staff", requires=Who.SYSTEM)
async def add_staff(ctx: Context, email: str) -> User:
    """Make an account staff; its sessions end, because staff have shorter ones."""
    user = await _find(ctx, email)
    if user.deleted_at is not None:
        raise Conflict("This account is deleted.", mend="Let them bring it back first.")
    if not user.is_verified:
        raise Conflict("The address is not confirmed.", mend="Let them follow the link in their mail first.")
    if not user.has_totp:
        raise Conflict("This account has no second factor.", mend="Let them turn on codes under Account, Security.")
    return await _turn(ctx, user, is_staff=True)


@action("accounts.remove_staff", requires=Who.SYSTEM, while_read_only=True)
async def remove_staff(ctx: Context, email: str) -> User:
    user = await _find(ctx, email)
    if not user.is_staff:
        raise Conflict("This account is not staff.", mend="Nothing to do.")
    return await _turn(ctx, user, is_staff=False)


async def _find(ctx: Context, email: str) -> User:
    wanted = select(User).where(User.email == email.strip().lower()).with_for_update()
    user: User | None = await ctx.db.scalar(wanted, execution_options={"include_deleted": True})
    if user is None:
        raise NotFound("There is no account with this address.", mend="Let them sign up first.")
    return user


async def _turn(ctx: Context, user: User, *, is_staff: bool) -> User:
    user.is_staff, user.staff_until = is_staff, None
    user.end_sessions()
    await shared.forget_sessions(ctx, user)
    return user
