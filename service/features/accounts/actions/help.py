"""What staff do for a person, or against whoever is in their account. Each says why; the person is told by mail."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, NotFound
from service.features.accounts.actions import _shared as shared
from service.features.accounts.actions.account import restore
from service.features.accounts.actions.security import drop_codes
from service.features.accounts.models import User
from service.guardrails import sessions
from service.guardrails.actions import action
from service.guardrails.permissions import Who

GONE = "This account is deleted."


@action("accounts.send_reset_link", requires=Who.STAFF, step_up=True)
async def send_reset_link(ctx: Context, person_id: UUID, reason: str) -> User:
    """A link to choose another password, to the account's own address and nowhere else."""
    user = await _lock(ctx, person_id, reason)
    if not await shared.may_mail(ctx, user.email):
        raise Conflict("This address has had all the mails it may get for now.", mend="Try again in an hour.")
    return user


@action("accounts.end_session_of", requires=Who.STAFF, step_up=True, while_read_only=True)
async def end_session_of(ctx: Context, person_id: UUID, session: str, reason: str) -> User:
    user = await _lock(ctx, person_id, reason, deleted=True)
    if not await sessions.end_device(ctx.resources, user.id, session):
        raise Conflict("There is no such session.", mend="It has probably ended already; look at the account again.")
    return user


@action("accounts.end_sessions_of", requires=Who.STAFF, step_up=True, while_read_only=True)
async def end_sessions_of(ctx: Context, person_id: UUID, reason: str) -> User:
    """Log them out everywhere, for good."""
    user = await _lock(ctx, person_id, reason, deleted=True)
    await _log_out(ctx, user)
    return user


@action("accounts.reset_totp_of", requires=Who.STAFF, step_up=True)
async def reset_totp_of(ctx: Context, person_id: UUID, reason: str) -> User:
    """For whoever lost phone and recovery codes. Never for staff: theirs is what the panel trusts."""
    user = await _lock(ctx, person_id, reason)
    if user.is_staff:
        raise Conflict(
            "A colleague's second factor is not reset here.",
            mend="Ask an operator to take them off the staff first (python -m service staff remove).",
        )
    if not user.has_totp:
        raise Conflict("This account asks for no codes.", mend="Nothing to do.")
    user.drop_totp()
    await drop_codes(ctx, user)
    await _log_out(ctx, user)
    return user


@action("accounts.confirm_address_of", requires=Who.STAFF, step_up=True)
async def confirm_address_of(ctx: Context, person_id: UUID, reason: str) -> User:
    """For whom no mail reaches, and who proved in another way that the address is theirs."""
    user = await _lock(ctx, person_id, reason)
    if user.is_verified:
        raise Conflict("This address is confirmed already.", mend="Nothing to do.")
    user.verify_email()
    return user


@action("accounts.lock", requires=Who.STAFF, step_up=True, while_read_only=True)
async def lock(ctx: Context, person_id: UUID, reason: str) -> User:
    """Nobody can log in, and whoever is in goes out, until it is unlocked. Nothing is deleted."""
    user = await _lock(ctx, person_id, reason)
    if user.id == ctx.user_id:
        raise Conflict("This is your own account.", mend="Ask a colleague.")
    if user.locked_at is not None:
        raise Conflict("This account is locked already.", mend="Nothing to do.")
    user.locked_at = clock.now()
    await _log_out(ctx, user)
    return user


@action("accounts.unlock", requires=Who.STAFF, step_up=True, while_read_only=True)
async def unlock(ctx: Context, person_id: UUID, reason: str) -> User:
    user = await _lock(ctx, person_id, reason)
    if user.locked_at is None:
        raise Conflict("This account is not locked.", mend="Nothing to do.")
    user.locked_at = None
    return user


@action("accounts.recover", requires=Who.STAFF, step_up=True)
async def recover(ctx: Context, person_id: UUID, reason: str) -> User:
    """Bring a deleted account back as it was, while it can come back. Sessions stay ended."""
    user = await _lock(ctx, person_id, reason, deleted=True)
    if user.deleted_at is None:
        raise Conflict("This account is not deleted.", mend="Nothing to do.")
    return await restore(ctx, user)


async def _lock(ctx: Context, person_id: UUID, reason: str, *, deleted: bool = False) -> User:
    wanted = select(User).where(User.id == person_id).with_for_update()
    user: User | None = await ctx.db.scalar(wanted, execution_options={"include_deleted": True})
    if user is None:
        raise NotFound("There is no such account.")
    if user.deleted_at is not None and not deleted:
        raise Conflict(GONE, mend="Recover it first, if its owner asks for that.")
    ctx.facts["reason"] = reason
    shared.announce_mail(ctx, user.id)
    return user


async def _log_out(ctx: Context, user: User) -> None:
    user.end_sessions()
    await shared.forget_sessions(ctx, user)
