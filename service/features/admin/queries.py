"""Reads for staff: how the service is doing. No customer's data is among it."""

from __future__ import annotations

from sqlalchemy import select

from service.core.context import Context
from service.core.statements import Prepared
from service.features.admin.schemas import MEANING, InvariantRow, Overview, SwitchRow
from service.guardrails import jobs
from service.guardrails.actions import query
from service.guardrails.invariants import INVARIANTS, InvariantResult
from service.guardrails.permissions import Who
from service.guardrails.switches import SwitchState

DEAD_LETTERS_SHOWN = 100
SWITCHES = Prepared(select(SwitchState.name, SwitchState.is_on, SwitchState.reason, SwitchState.changed_at))
RESULTS = Prepared(
    select(InvariantResult.name, InvariantResult.violations, InvariantResult.checked_at).order_by(InvariantResult.name)
)


@query("admin.overview", requires=Who.STAFF)
async def get_overview(ctx: Context) -> Overview:
    turned = {row["name"]: row for row in await ctx.fetch(SWITCHES)}
    results = await ctx.fetch(RESULTS)
    return Overview(
        switches=[
            SwitchRow(
                switch=switch,
                title=title,
                meaning=meaning,
                is_on=row["is_on"] if (row := turned.get(switch)) else False,
                reason=row["reason"] if row else "",
                changed_at=row["changed_at"] if row else None,
            )
            for switch, (title, meaning) in MEANING.items()
        ],
        dead_letters=await jobs.failed(ctx.work, DEAD_LETTERS_SHOWN),
        invariants=[
            InvariantRow(
                sentence=INVARIANTS[row["name"]].sentence if row["name"] in INVARIANTS else row["name"],
                violations=row["violations"],
                checked_at=row["checked_at"],
            )
            for row in results
        ],
    )
