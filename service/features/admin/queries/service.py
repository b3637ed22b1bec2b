"""Reads for staff: how the service is doing. No customer's data is among it."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import literal_column, select

from service.core.context import Context
from service.core.statements import Prepared
from service.features.accounts.models import User
from service.features.admin.schemas import MEANING, FlagRead, SwitchRow, Turn
from service.guardrails.actions import query
from service.guardrails.audit import AuditRow
from service.guardrails.feature_flags import OrganizationFlag
from service.guardrails.jobs import dead
from service.guardrails.pagination import Keyset, Page, PageRequest, paginate
from service.guardrails.permissions import Who
from service.guardrails.switches import SwitchState
from service.web.dead_letters import Letter, Lists

TURNS_SHOWN = 50
JOBS = Lists(dead.LETTERS, order=dead.ORDER, name=dead.QUEUE.c.entrypoint, identifier=dead.QUEUE.c.id)
SWITCHES = Prepared(select(SwitchState.name, SwitchState.is_on, SwitchState.reason, SwitchState.changed_at))
TURNS = Prepared(
    select(AuditRow.at, AuditRow.reason, AuditRow.facts, User.name.label("who"))
    .outerjoin(User, User.id == AuditRow.actor_id)
    .where(AuditRow.organization_id.is_(None), AuditRow.action == "admin.turn_switch", AuditRow.outcome == "done")
    .order_by(AuditRow.id.desc())
    .limit(literal_column(str(TURNS_SHOWN))),
    across_tenants=True,
    include_deleted=True,
)
"""What belongs to no organization's log; a policy shows it to staff alone."""
FLAGS = Keyset(
    select(
        OrganizationFlag.organization_id, OrganizationFlag.name, OrganizationFlag.is_on, OrganizationFlag.changed_at
    ),
    order=(OrganizationFlag.organization_id.asc(), OrganizationFlag.name.asc()),
    across_tenants=True,
)


@query("admin.list_switches", requires=Who.STAFF)
async def list_switches(ctx: Context) -> list[SwitchRow]:
    """Every switch there is, with who turned it and why."""
    turned = {row["name"]: row for row in await ctx.fetch(SWITCHES)}
    history: dict[str, list[Turn]] = defaultdict(list)
    for row in await ctx.fetch(TURNS):
        facts = row["facts"]
        turn = Turn(row["at"], row["who"] or "somebody who is gone", bool(facts.get("on", True)), row["reason"])
        history[facts["switch"]].append(turn)
    return [
        SwitchRow(
            switch=switch,
            title=title,
            meaning=meaning,
            is_on=row["is_on"] if (row := turned.get(switch)) else False,
            reason=row["reason"] if row else "",
            changed_at=row["changed_at"] if row else None,
            history=history[switch],
        )
        for switch, (title, meaning) in MEANING.items()
    ]


@query("admin.list_flags", requires=Who.STAFF)
async def list_flags(ctx: Context, page: PageRequest) -> Page[FlagRead]:
    """Every organization that was turned one way or the other, of every flag."""
    return await paginate(ctx, FLAGS, page, FlagRead)


@query("admin.list_dead_jobs", requires=Who.STAFF)
async def list_dead_jobs(ctx: Context, sought: str, page: PageRequest) -> Page[Letter]:
    """Newest first, without what they carry."""
    return await JOBS.page(ctx, sought, page)


@query("admin.count_dead_jobs", requires=Who.STAFF)
async def count_dead_jobs(ctx: Context) -> int:
    return await JOBS.count(ctx)
