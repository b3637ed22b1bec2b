"""What the synchronizer does in an organization's name: audited and announced like everything people do."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from service.core import clock
from service.core.context import Context
from service.features.billing.models import Effect
from service.features.billing.models.derive import Grant
from service.features.billing.models.plans import grants_of
from service.guardrails.actions import action
from service.guardrails.entitlements import Entitlement, EntitlementChange
from service.guardrails.permissions import Who

STALE_DAYS = 7
"""A fact older than this is history that we learn late (a first import, a restored backup): nobody is mailed."""


@action("billing.set_entitlement", requires=Who.SYSTEM, while_read_only=True)
async def set_entitlement(ctx: Context, grant: Grant) -> Entitlement:
    """Write what holds now, and a line of history; the caller holds the customer's row."""
    now = clock.now()
    found = (await ctx.db.execute(select(Entitlement))).scalar_one_or_none()
    row = found or Entitlement(version=0)
    ctx.facts |= {"from": found.plan if found else "free", "to": grant.plan.key, "source": grant.source}
    what = {
        "plan": grant.plan.key, "grants": grants_of(grant.plan), "full_until": grant.full_until,
        "valid_until": grant.valid_until, "source": grant.source, "version": row.version + 1,
    }  # fmt: skip
    for name, value in what.items():
        setattr(row, name, value)
    row.changed_at = now
    ctx.add(row)
    ctx.add(EntitlementChange(at=now, **what))
    return row


@action("billing.notify", requires=Who.SYSTEM, while_read_only=True)
async def notify(ctx: Context, key: str, kind: str, happened_at: datetime) -> bool:
    """Set off a notice for a business fact, once however often the fact is seen; a job mails it (jobs.py)."""
    now = clock.now()
    stale = (now - happened_at).days >= STALE_DAYS
    values = {"effect_key": key, "kind": kind, "created_at": now, "organization_id": ctx.organization_id}
    if stale:
        values |= {"outcome": "stale", "settled_at": now}
    new = await ctx.db.scalar(insert(Effect).values(values).on_conflict_do_nothing().returning(Effect.effect_key))
    ctx.facts |= {"effect": key, "kind": kind, "new": new is not None and not stale}
    return new is not None


@action("billing.settle_up", requires=Who.SYSTEM, while_read_only=True)
async def settle_up(ctx: Context, *, gone: bool) -> None:
    """What is paid at Stripe does not fit the organization; a job asks Stripe for what does (jobs/followers.py)."""
    ctx.facts |= {"gone": gone}
