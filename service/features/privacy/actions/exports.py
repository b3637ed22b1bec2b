"""Asking for a copy of one's data, or of an organization's; and the end of each."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, Invalid, NotFound
from service.core.ids import new_id
from service.features.accounts.models import User
from service.features.privacy.models import DataExport, Scope, State
from service.guardrails.actions import action
from service.guardrails.permissions import Role, Who
from service.guardrails.staff_reasons import LONGEST, SHORTEST

LIFETIME = timedelta(hours=24)
UNIQUE_VIOLATION = "23505"


@action("privacy.request_export", requires=Who.SIGNED_IN, step_up=True)
async def request_export(ctx: Context) -> DataExport:
    """Everything we hold about the acting person. Raises Conflict while an earlier one is being made."""
    return await _ask(ctx, DataExport(user_id=ctx.user_id, scope=Scope.PERSON))


@action("privacy.request_organization_export", requires=Role.OWNER, step_up=True, while_unpaid=True)
async def request_organization_export(ctx: Context) -> DataExport:
    """Everything of the organization, to leave with: also for one that owes us money (EU Data Act, Art. 25)."""
    wanted = DataExport(user_id=ctx.user_id, scope=Scope.ORGANIZATION, organization_id=ctx.organization_id)
    return await _ask(ctx, wanted)


@action("privacy.copy_by_letter", requires=Who.SYSTEM)
async def copy_by_letter(ctx: Context, email: str, reason: str) -> User:
    """From a shell, for who cannot log in (GDPR Art. 15, 12(6)); locked and deleted accounts, too."""
    wanted = select(User).where(User.email == email.strip().lower())
    user: User | None = await ctx.db.scalar(wanted, execution_options={"include_deleted": True})
    if user is None:
        raise NotFound("There is no account with this address.")
    if not SHORTEST <= len(reason.strip()) <= LONGEST:
        raise Invalid(f"The reason has {SHORTEST} to {LONGEST} characters.", mend="Say how they proved who they are.")
    ctx.facts |= {"reason": reason.strip(), "copy": str(new_id())}
    return user


@action("privacy.finish_export", requires=Who.SYSTEM)
async def finish_export(
    ctx: Context, export_id: UUID, claim: UUID, key: str, size: int, missing: list[str]
) -> DataExport | None:
    """None when another worker has taken over: its archive counts."""
    found = await _held(ctx, export_id, claim)
    if found is not None:
        found.state, found.key, found.size, found.missing = State.READY, key, size, missing[:100]
        found.done, found.remark = found.parts, ""
        found.ready_at = clock.now()
        found.expires_at = found.ready_at + LIFETIME
        found.claim = found.leased_until = None
    return found


@action("privacy.fail_export", requires=Who.SYSTEM)
async def fail_export(ctx: Context, export_id: UUID, claim: UUID, remark: str) -> DataExport | None:
    found = await _held(ctx, export_id, claim)
    if found is not None:
        found.state, found.remark, found.claim, found.leased_until = State.FAILED, remark, None, None
    return found


async def _ask(ctx: Context, wanted: DataExport) -> DataExport:
    try:
        ctx.add(wanted)
        await ctx.db.flush()
    except IntegrityError as error:
        if getattr(error.orig, "sqlstate", "") != UNIQUE_VIOLATION:
            raise
        raise Conflict("A copy is being made already.", mend="Wait until it is ready.") from error
    return wanted


async def _held(ctx: Context, export_id: UUID, claim: UUID) -> DataExport | None:
    wanted = select(DataExport).where(DataExport.id == export_id, DataExport.claim == claim).with_for_update()
    return (await ctx.db.execute(wanted)).scalar_one_or_none()
