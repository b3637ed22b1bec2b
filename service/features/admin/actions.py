"""What staff may do; each needs a fresh proof of identity and says why."""

from __future__ import annotations

from service.core.context import Context
from service.core.errors import Conflict, Invalid
from service.guardrails import jobs, switches
from service.guardrails.actions import action
from service.guardrails.permissions import Who
from service.guardrails.switches import Switch, SwitchState


@action("admin.turn_switch", requires=Who.STAFF, step_up=True, while_read_only=True)
async def turn_switch(ctx: Context, switch: Switch, *, on: bool, reason: str) -> SwitchState:
    """Works everywhere within two seconds. Turning on needs a reason, because people will read it and ask."""
    if on and not reason:
        raise Invalid("Say why.", fields={"reason": "Say why: people see this while the switch is on."})
    await _act_for_nobody(ctx)
    ctx.facts |= {"switch": switch.value, "reason": reason}
    return await switches.turn(ctx, switch, on=on, reason=reason)


@action("admin.replay_jobs", requires=Who.STAFF, step_up=True)
async def replay_jobs(ctx: Context, ids: list[int]) -> int:
    """Give dead letters their attempts back; how many there were."""
    await _act_for_nobody(ctx)
    count = await jobs.replay(ctx.work, ids)
    if not count:
        raise Conflict(
            "None of these is a dead letter any more.", mend="Reload the page; somebody may have been faster."
        )
    ctx.facts |= {"jobs": count}
    return count


async def _act_for_nobody(ctx: Context) -> None:
    """Staff may belong to an organization like anybody else; what they do here is not part of its log."""
    await ctx.work.act_for(tenant=None, user=ctx.user_id)
