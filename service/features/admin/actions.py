"""What staff may do; each needs a fresh proof of identity and says why."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Select, select

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, Invalid, NotFound
from service.features.admin import queries
from service.features.admin.queries import JOBS
from service.features.admin.queries.organizations import ORGANIZATION
from service.features.admin.queries.people import PERSON
from service.features.admin.schemas import LimitsReset, LimitsSearch
from service.features.organizations.models import Organization
from service.guardrails import feature_flags, limit_lookup, staff_reasons, switches
from service.guardrails.actions import action
from service.guardrails.feature_flags import Flag
from service.guardrails.jobs import dead
from service.guardrails.permissions import Who
from service.guardrails.purge import LegalHold, lock_for_hold
from service.guardrails.switches import Switch, SwitchState
from service.web.dead_letters import AT_ONCE


@action("admin.turn_switch", requires=Who.STAFF, step_up=True, while_read_only=True)
async def turn_switch(ctx: Context, switch: Switch, *, on: bool, reason: str) -> SwitchState:
    """Works everywhere within two seconds."""
    ctx.facts |= {"switch": switch.value, "on": on, "reason": reason}
    return await switches.turn(ctx, switch, on=on, reason=reason)


@action("admin.verify_log", requires=Who.STAFF, step_up=True)
async def verify_log(ctx: Context) -> None:
    """Have every row of the audit log recomputed against its seals; begun within moments (guardrails.audit.checks).

    No job does it: its transaction would keep the log from being sealed meanwhile.
    """


@action("admin.reset_limits", requires=Who.STAFF, step_up=True)
async def reset_limits(ctx: Context, wanted: LimitsSearch, given: LimitsReset) -> int:
    """Let somebody try again at once: empty what one limit, or every limit, has counted for them. Raises Conflict."""
    found = await queries.limits_of(ctx, wanted)
    ctx.facts |= {"whose": found.whose, "limit": given.policy or "all", "reason": given.reason}
    count = await limit_lookup.reset(ctx.resources, found.known, given.policy)
    if not count:
        raise Conflict("Nothing is counted there any more.", mend="Reload the page: it may be over by itself.")
    return count


@action("admin.turn_flag", requires=Who.STAFF, step_up=True)
async def turn_flag(ctx: Context, organization: UUID, flag: Flag, to: str, reason: str) -> None:
    """For one organization, in whose log it stands; everywhere within five seconds. Raises Invalid."""
    await ctx.work.act_for(tenant=organization, user=ctx.user_id)
    known = select(Organization.id).where(Organization.id == organization)
    if (await ctx.db.execute(known)).first() is None:
        raise Invalid("There is no such organization.", fields={"organization": "There is no such organization."})
    await feature_flags.turn(ctx, flag, on={"on": True, "off": False, "default": None}[to])
    ctx.facts |= {"flag": flag.value, "to": to, "reason": reason}


@action("admin.replay_jobs", requires=Who.STAFF, step_up=True)
async def replay_jobs(ctx: Context, q: str, reason: str) -> int:
    """Give dead letters their attempts back; the oldest thousand of those that are sought."""
    return _done(ctx, q, reason, await dead.replay_some(ctx.work, JOBS.terms(q), AT_ONCE))


@action("admin.discard_jobs", requires=Who.STAFF, step_up=True)
async def discard_jobs(ctx: Context, q: str, reason: str) -> int:
    """Forget dead letters: what they would have done is never done."""
    return _done(ctx, q, reason, await dead.discard_some(ctx.work, JOBS.terms(q), AT_ONCE))


def _done(ctx: Context, q: str, reason: str, names: Sequence[str]) -> int:
    if not names:
        raise Conflict(
            "None of these is a dead letter any more.", mend="Reload the page; somebody may have been faster."
        )
    ctx.facts |= {"jobs": len(names), "names": sorted(set(names)), "sought": q, "reason": reason}
    return len(names)


@action("admin.give_reason", requires=Who.STAFF, step_up=True, while_read_only=True)
async def give_reason(ctx: Context, subject: str, reason: str) -> None:
    """See the personal data of `subject`, an address of the panel, for a quarter of an hour."""
    await staff_reasons.keep(ctx, subject, reason)
    ctx.facts |= {"about": subject, "reason": reason}


@action("admin.hold", requires=Who.STAFF, step_up=True)
async def hold(ctx: Context, subject_id: UUID, reason: str) -> LegalHold:
    """Nothing of this person or organization is destroyed, whatever the rules of retention say, until it is lifted.

    Raises NotFound and Conflict.
    """
    await lock_for_hold(ctx.work, subject_id)
    known = [await ctx.fetch_one(found, id=subject_id) for found in (PERSON, ORGANIZATION)]
    if known == [None, None]:
        raise NotFound("There is no such account and no such organization.")
    if (await ctx.db.scalar(_held(subject_id))) is not None:
        raise Conflict("This is held already.", mend="Nothing to do.")
    held = LegalHold(subject_id=subject_id, reason=reason, placed_by=ctx.user_id)
    ctx.add(held)
    ctx.facts |= {"account": str(subject_id), "reason": reason}
    return held


@action("admin.lift_hold", requires=Who.STAFF, step_up=True)
async def lift_hold(ctx: Context, subject_id: UUID, reason: str) -> LegalHold:
    """The rules of retention hold again; what is overdue goes within the hour."""
    held: LegalHold | None = await ctx.db.scalar(_held(subject_id).with_for_update())
    if held is None:
        raise Conflict("Nothing holds this.", mend="Nothing to do.")
    held.lifted_at = clock.now()
    ctx.facts |= {"account": str(subject_id), "reason": reason}
    return held


def _held(subject_id: UUID) -> Select[LegalHold]:
    mine = select(LegalHold).where(LegalHold.subject_id == subject_id, LegalHold.lifted_at.is_(None))
    return mine.order_by(LegalHold.placed_at).limit(1)
