"""Writes: beginning, cancelling and ending an import. What happens in between is in flows/run.py: one line of the audit
log per import, not one per piece of its file."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, select

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict
from service.core.ids import new_id
from service.core.statements import Prepared
from service.features.imports.models import Import, State
from service.features.imports.schemas import ImportForm
from service.features.indicators.models import Indicator
from service.features.organizations.models import Organization
from service.guardrails.actions import action
from service.guardrails.permissions import Role, Who
from service.guardrails.residency import place

MOST_OPEN = 5
HOW_MANY_OPEN = Prepared(select(func.count().label("open")).select_from(Import).where(Import.object_key.is_not(None)))


@action("imports.begin", requires=Role.MEMBER)
async def begin_import(ctx: Context, given: ImportForm, name: str) -> Import:
    """Note that a file comes, before its first byte does: should we die on the way, nothing is left behind unknown."""
    await ctx.get(Organization, ctx.tenant)  # two who begin the last one at once take turns
    row = await ctx.fetch_one(HOW_MANY_OPEN)
    if row and row["open"] >= MOST_OPEN:
        raise Conflict(f"{MOST_OPEN} imports of your organization wait already.", mend="Wait until one has ended.")
    if given.indicator is not None:
        (await ctx.get(Indicator, given.indicator)).refuse_readings_when_archived()
    identifier = new_id()
    begun = Import(
        id=identifier,
        created_by=ctx.actor.id,
        name=name,
        object_key=await place(ctx, f"imports/{ctx.organization_id}/{identifier}"),
        indicator_id=given.indicator,
        mode=given.mode,
        zone=given.zone,
        decimal=given.decimal,
    )
    ctx.add(begun)
    return begun


@action("imports.receive", requires=Role.MEMBER)
async def receive_import(ctx: Context, import_id: UUID, size: int) -> Import:
    """The file is stored: have it read in the background, after those that came before it."""
    found = await ctx.get(Import, import_id)
    if found.state is not State.ARRIVING:
        raise Conflict("This import has ended.", mend="Upload the file again.")
    found.size, found.state = size, State.WAITING
    return found


@action("imports.cancel", requires=Role.MEMBER, while_unpaid=True)
async def cancel_import(ctx: Context, import_id: UUID) -> Import:
    """Ask the worker to stop; it says so when it has."""
    found = await ctx.get(Import, import_id)
    found.cancel()
    return found


@action("imports.finish", requires=Who.SYSTEM, while_read_only=True)
async def finish_import(ctx: Context, import_id: UUID, state: State, sentence: str) -> Import:
    """How it ended, with the counts; the sentence is for the page."""
    found = await ctx.get(Import, import_id)
    found.state, found.remark, found.finished_at = state, sentence, clock.now()
    counts = {"rows": found.rows, "added": found.added, "unchanged": found.unchanged, "refused": found.refused}
    ctx.facts |= {**counts, "indicators": [str(one) for one in found.fed]}
    return found
