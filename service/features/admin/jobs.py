"""What staff ask for and the worker does."""

from __future__ import annotations

from datetime import timedelta

from service.core.context import Context
from service.features.admin import actions
from service.guardrails.audit import verify
from service.guardrails.jobs import Event, Retry, on


@on(actions.verify_log, retry=Retry(attempts=2), timeout=timedelta(minutes=30))
async def verify_the_log(ctx: Context, event: Event) -> None:
    """Reads segment by segment as the maintenance role, in transactions of its own; only the outcome is in this one."""
    await actions.note_verification(ctx, await verify(ctx.resources.as_maintenance, ctx.settings))
