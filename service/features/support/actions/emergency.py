"""Break-glass: opened from a shell, ended by the clock or by hand, reviewed by somebody else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, Forbidden, Invalid, NotFound
from service.core.ids import new_id
from service.core.logging import get_logger
from service.features.accounts.actions._shared import forget_sessions
from service.features.accounts.models import User
from service.features.accounts.models.credentials import hash_recovery_code, new_recovery_code
from service.guardrails import break_glass
from service.guardrails.actions import action
from service.guardrails.break_glass import LONGEST, NOTE_LENGTH, REASON_LENGTH, BreakGlassGrant
from service.guardrails.permissions import Who

SHORTEST_REASON = 10

log = get_logger()


@dataclass(frozen=True, slots=True)
class Opened:
    """What the command prints; the code is nowhere else."""

    code: str
    ends_at: datetime


@action("support.open_break_glass", requires=Who.SYSTEM, while_read_only=True)
async def open_break_glass(ctx: Context, email: str, reason: str, minutes: int) -> Opened:
    """Give a named person emergency rights, and staff rights if they are not staff; their sessions end."""
    reason = _sentence(reason, "Say why.", "--reason", REASON_LENGTH)
    span = timedelta(minutes=minutes)
    if not timedelta() < span <= LONGEST:
        raise Invalid("That is too long or too short.", mend="--minutes takes 1 to 60; open it again if it must be.")
    user = await _find(ctx, email)
    if not user.is_verified:
        raise Conflict("The address is not confirmed.", mend="Choose somebody who uses their account.")
    if user.locked_at is not None:
        raise Conflict("The account is locked, so nobody could log in.", mend="Name somebody whose account is not.")
    if user.password_hash is None:
        raise Conflict("This account has no password, so its code would be all.", mend="Let them set one by /forgot.")
    if await break_glass.find_open(ctx, user.id) is not None:
        raise Conflict("They have emergency rights already.", mend="Close those first: break-glass close EMAIL.")
    code, ends_at = new_recovery_code(), clock.now() + span
    grant = BreakGlassGrant(
        id=new_id(), user_id=user.id, reason=reason, ends_at=ends_at, code_hash=hash_recovery_code(code)
    )
    ctx.add(grant)
    if not user.is_staff or user.staff_until is not None:
        user.is_staff, user.staff_until = True, ends_at
    user.emergency_until = ends_at
    await _end_sessions(ctx, user)
    ctx.facts |= {"grant": str(grant.id), "account": str(user.id), "minutes": minutes, "reason": reason}
    log.error("break-glass opened", details=f"grant {grant.id}, {minutes} minutes")
    return Opened(code, ends_at)


@action("support.close_break_glass", requires=Who.SYSTEM, while_read_only=True)
async def close_break_glass(ctx: Context, email: str) -> None:
    """Before its time."""
    user = await _find(ctx, email)
    grant = await break_glass.find_open(ctx, user.id)
    if grant is None:
        raise Conflict("They have no emergency rights.", mend="Nothing to do.")
    await _close(ctx, grant)


@action("support.end_break_glass", requires=Who.SYSTEM, while_read_only=True)
async def end_break_glass(ctx: Context, grant_id: UUID) -> None:
    """Tidy up after the clock: what it gave has ended already."""
    grant = await _lock(ctx, grant_id)
    if grant.closed_at is None:
        await _close(ctx, grant)


@action("support.review_break_glass", requires=Who.STAFF, step_up=True)
async def review_break_glass(ctx: Context, grant_id: UUID, reason: str) -> BreakGlassGrant:
    """Say what was found. Somebody else than whoever had the rights, and nobody who has some at this moment."""
    if ctx.emergency:
        raise Forbidden("You have emergency rights yourself.", mend="Let somebody who has none review this.")
    grant = await _reviewable(ctx, grant_id, ctx.user_id)
    confirmed = grant.recorded_at is not None and grant.reviewed_by == ctx.user_id
    ctx.facts |= {"account": str(grant.user_id), "reason": reason, "confirmed": confirmed}
    grant.reviewed_at, grant.reviewed_by, grant.review = clock.now(), ctx.user_id, reason
    return grant


@action("support.record_review", requires=Who.SYSTEM)
async def record_review(ctx: Context, grant_id: UUID, email: str, note: str) -> BreakGlassGrant:
    """Note from a shell what a colleague says they found. It counts once they have said so themselves in the panel."""
    note = _sentence(note, "Say what they found.", "--note", NOTE_LENGTH)
    reviewer = await _find(ctx, email)
    if not reviewer.is_staff or reviewer.staff_until is not None:
        raise Forbidden("Only staff review.", mend="Name somebody who is staff for good.")
    grant = await _reviewable(ctx, grant_id, reviewer.id)
    grant.recorded_at, grant.reviewed_by, grant.review = clock.now(), reviewer.id, note
    ctx.facts |= {"grant": str(grant_id), "account": str(grant.user_id), "reason": note}
    return grant


async def _reviewable(ctx: Context, grant_id: UUID, reviewer: UUID) -> BreakGlassGrant:
    """Locked: over, not reviewed, and somebody else's than the reviewer's."""
    grant = await _lock(ctx, grant_id)
    if grant.is_open:
        raise Conflict("It is still open.", mend="Close it first, or wait until its time is over.")
    if grant.reviewed_at is not None:
        raise Conflict("This has been reviewed already.", mend="Reload the page to see by whom.")
    if grant.user_id == reviewer:
        ctx.note("break_glass.review", "denied", grant=str(grant.id))
        raise Forbidden("Nobody reviews what they did themselves.", mend="Let a colleague do it.")
    return grant


def _sentence(text: str, wanted: str, option: str, longest: int) -> str:
    text = " ".join(text.split())
    if not SHORTEST_REASON <= len(text) <= longest:
        raise Invalid(wanted, mend=f"{option} takes a sentence of {SHORTEST_REASON} to {longest} characters.")
    return text


async def _lock(ctx: Context, grant_id: UUID) -> BreakGlassGrant:
    found = await ctx.db.scalar(select(BreakGlassGrant).where(BreakGlassGrant.id == grant_id).with_for_update())
    if found is None:
        raise NotFound("There are no such emergency rights.")
    return found


async def _close(ctx: Context, grant: BreakGlassGrant) -> None:
    grant.closed_at = min(clock.now(), grant.ends_at)
    ctx.facts |= {"grant": str(grant.id)}
    user = await ctx.db.scalar(select(User).where(User.id == grant.user_id).with_for_update())
    # Somebody may have opened another one since: what the clock has ended for this grant, it has not for that.
    if user is not None and await break_glass.find_open(ctx, user.id) is None:
        if user.staff_until is not None:
            user.is_staff, user.staff_until = False, None
        user.emergency_until = None
        await _end_sessions(ctx, user)


async def _end_sessions(ctx: Context, user: User) -> None:
    user.end_sessions()
    await forget_sessions(ctx, user)


async def _find(ctx: Context, email: str) -> User:
    found: User | None = await ctx.db.scalar(select(User).where(User.email == email.strip().lower()).with_for_update())
    if found is None:
        raise NotFound("There is no account with this address.", mend="Name somebody who has one.")
    return found
