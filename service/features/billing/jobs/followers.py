"""What billing does when something happens elsewhere: seats follow the members, and nobody pays for what is deleted."""

from __future__ import annotations

from datetime import timedelta

from service.core.context import Context
from service.features.billing import actions
from service.features.organizations import actions as organizations
from service.guardrails.jobs import Event, Retry, on

# In a line, and again and again: another change that is on its way makes these wait, never give up.
STUBBORN = Retry(attempts=40, first=timedelta(seconds=2), longest=timedelta(minutes=15))


@on(organizations.accept_invitation, key="action", retry=STUBBORN)
async def follow_a_new_member(ctx: Context, event: Event) -> None:
    await actions.plan_seats(ctx)


@on(organizations.remove_member, key="action", retry=STUBBORN)
async def follow_a_removal(ctx: Context, event: Event) -> None:
    await actions.plan_seats(ctx)


@on(organizations.leave_organization, key="action", retry=STUBBORN)
async def follow_a_departure(ctx: Context, event: Event) -> None:
    await actions.plan_seats(ctx)


@on(organizations.delete_organization, retry=STUBBORN)
async def end_what_was_deleted(ctx: Context, event: Event) -> None:
    await actions.plan_end(ctx)


@on(actions.settle_up, key="action", retry=STUBBORN)
async def make_it_fit(ctx: Context, event: Event) -> None:
    await (actions.plan_end(ctx) if event.facts["gone"] else actions.plan_seats(ctx))
