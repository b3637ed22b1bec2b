"""The one writer of our copy: everything that learns something about a customer ends here.

The compare-and-set comes first. Of two readings that overlapped, the second to arrive finds another version and is
thrown away: without it the older reading could be written last, and the upgrade of a minute ago was gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Select, func, select
from sqlalchemy.dialects.postgresql import distinct_on

from service.core import clock
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.database import UnitOfWork
from service.core.ids import new_id
from service.core.logging import get_logger
from service.features.billing import actions
from service.features.billing.flows.claim import Claim
from service.features.billing.flows.metrics import alarms
from service.features.billing.flows.notices import notices
from service.features.billing.flows.snapshot import Snapshot
from service.features.billing.models import Invoice, LedgerEntry, PlanOverride, Subscription
from service.features.billing.models.customer import reading_of
from service.features.billing.models.derive import Grant, derive, plan_of_item
from service.features.billing.models.mirror import LIVE, TERMINAL, subscriptions_in_mode
from service.features.billing.models.plans import BY_KEY, grants_of
from service.features.organizations.models import Membership, Organization
from service.guardrails.entitlements import Entitlement
from service.integrations.stripe.readings import invoice_columns, ledger_facts, subscription_columns

log = get_logger()
Row = TypeVar("Row", Subscription, Invoice)

# An organization has a second customer once its first was deleted at Stripe. What they are entitled to is one row:
# of two readings at once, the second must see what the first has written. In one order, as everywhere.
TAKE_TURNS = "SELECT FROM billing_customers WHERE organization_id = $1 ORDER BY id FOR UPDATE"
COMPARE_AND_SET = """
    UPDATE billing_customers SET sync_version = sync_version + 1, synced_gen = $3, lease_token = NULL,
        lease_until = NULL, failures = 0, last_error = NULL, dead_at = NULL, last_synced_at = now(),
        deleted_at = CASE WHEN $4 THEN coalesce(deleted_at, now()) ELSE deleted_at END,
        dirty_since = CASE WHEN dirty_gen > $3 THEN now() END, next_attempt_at = now()
    WHERE id = $1 AND sync_version = $2
    RETURNING sync_version
"""
SETTLE_MESSAGES = """
    UPDATE inbox SET state = 'processed', processed_at = now(), applied_version = $3
    WHERE source = 'stripe' AND subject = $1 AND gen <= $2 AND state = 'pending'
"""
RECENT = timedelta(days=400)


class StaleReading(Exception):
    """Stripe's answer is older than what its own event, or our copy, already says: read again later."""


async def apply_snapshot(resources: Resources, work: UnitOfWork, claim: Claim, snapshot: Snapshot) -> bool:
    """Write what was read, if nobody wrote since `claim` looked; False: somebody did, and nothing was changed.

    `work` acts for the customer's organization and is committed by the caller. Raises StaleReading.
    """
    raw = work.raw
    await raw.execute(TAKE_TURNS, claim.organization_id)
    version = await raw.fetchval(COMPARE_AND_SET, claim.id, claim.sync_version, claim.gen, snapshot.deleted)
    if version is None:
        return False
    caller = Caller(reading_of(claim.stripe_customer_id, version))
    ctx = Context(work, resources, SYSTEM, caller, claim.organization_id)
    subscriptions = await _copy_subscriptions(ctx, claim, snapshot)
    moved = await _copy_invoices(ctx, claim, snapshot) if snapshot.invoices else set[str]()
    if snapshot.money:
        await _record(ctx, claim, snapshot.money)
    invoices = await _rows(ctx, select(Invoice).where(Invoice.created_at > clock.now() - RECENT))
    await refresh_entitlement(ctx, subscriptions, invoices)
    await _follow(ctx, subscriptions)
    for key, kind, happened_at in notices(subscriptions, invoices, clock.now()):
        # An invoice of last week may be tried, and paid, today: what we saw change is no old story.
        await actions.notify(ctx, key, kind, clock.now() if key.split(":")[1] in moved else happened_at)
    await raw.execute(SETTLE_MESSAGES, claim.stripe_customer_id, claim.gen, version)
    return True


async def refresh_entitlement(ctx: Context, subscriptions: Iterable[Subscription], invoices: Iterable[Invoice]) -> None:
    """Derive what holds and write it down if it is something else than before."""
    now = clock.now()
    row = (await ctx.db.execute(select(Entitlement))).scalar_one_or_none()
    last = Grant(BY_KEY[row.plan], row.full_until, row.valid_until, row.source) if row and row.plan in BY_KEY else None
    given = await ctx.db.execute(select(PlanOverride.plan, PlanOverride.ends_at).where(PlanOverride.ends_at > now))
    grace = timedelta(days=ctx.settings.grace_days)
    grant = derive(subscriptions, invoices, [(plan, end) for plan, end in given], last, grace=grace, now=now)
    for alarm in grant.alarms:
        alarms.labels(alarm.partition(":")[0]).inc()
        log.error("billing alarm", organization=str(ctx.organization_id), alarm=alarm)
    renumbered = row is not None and row.grants != grants_of(grant.plan)  # plans.py has another limit since
    if renumbered or grant != (last or derive((), (), (), None, grace=grace, now=now)):
        await actions.set_entitlement(ctx, grant)


async def _follow(ctx: Context, subscriptions: Iterable[Subscription]) -> None:
    """What is paid must fit what there is: as many seats as members, and nothing for what was deleted meanwhile."""
    living = [one for one in subscriptions if one.status in LIVE]
    paid = {item["quantity"] for one in living for item in one.items if plan_of_item(item)}
    members = await ctx.db.scalar(select(func.count()).select_from(Membership)) if living else None
    gone = living and await ctx.db.scalar(select(Organization.id).where(Organization.id == ctx.work.tenant)) is None
    if gone or (members and paid and paid != {members}):
        await actions.settle_up(ctx, gone=bool(gone))


async def _copy_subscriptions(ctx: Context, claim: Claim, snapshot: Snapshot) -> list[Subscription]:
    mine = subscriptions_in_mode(ctx.work.tenant, ctx.settings.stripe_livemode)
    known = {row.stripe_id: row for row in await _rows(ctx, mine)}
    for thing in snapshot.subscriptions:
        columns = subscription_columns(thing)
        identifier = str(thing["id"])
        row = known.get(identifier)
        # Raising a price moves its lookup key to the new one (transfer_lookup_key); who pays the old one goes on.
        keys = {item["price"]: item["lookup_key"] for item in (row.items if row else ())}
        for item in columns["items"]:
            item["lookup_key"] = item["lookup_key"] or keys.get(item["price"])
        ended = identifier in claim.ended or (row is not None and row.status in TERMINAL)
        if ended and columns["status"] not in TERMINAL:
            # Nothing comes back from there: Stripe's replica lags, or this is a bug. An ended plan must not revive.
            raise StaleReading(f"{identifier} ended, and the reading says {columns['status']}")
        known[identifier] = _write(ctx, Subscription, row, identifier, claim, snapshot.fetched_at, columns)
    if snapshot.deleted:
        for row in known.values():
            if row.customer_id == claim.id and row.status not in TERMINAL:
                row.status, row.ended_at = "canceled", snapshot.fetched_at
    return list(known.values())


async def _copy_invoices(ctx: Context, claim: Claim, snapshot: Snapshot) -> set[str]:
    """Answers those that we knew, and that were tried or settled since."""
    things = {str(thing["id"]): thing for thing in snapshot.invoices or []}
    known = {row.stripe_id: row for row in await _rows(ctx, select(Invoice).where(Invoice.stripe_id.in_(things)))}
    before = {identifier: (row.status, row.attempt_count) for identifier, row in known.items()}
    for identifier, thing in things.items():
        columns = invoice_columns(thing, snapshot.waiting)
        _write(ctx, Invoice, known.get(identifier), identifier, claim, snapshot.fetched_at, columns)
    return {name for name, was in before.items() if was != (known[name].status, known[name].attempt_count)}


def _write(
    ctx: Context,
    model: type[Row],
    row: Row | None,
    identifier: str,
    claim: Claim,
    fetched_at: datetime,
    columns: dict[str, Any],
) -> Row:
    """Every column, nulls included."""
    if row is None:
        row = model(stripe_id=identifier)
        ctx.add(row)
    for name, value in {**columns, "customer_id": claim.id, "fetched_at": fetched_at}.items():
        setattr(row, name, value)
    return row


async def _record(ctx: Context, claim: Claim, money: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """A new row for each fact that is not what its newest row says."""
    facts = {fact["stripe_id"]: fact for kind, thing in money for fact in ledger_facts(kind, thing)}
    newest = (
        select(LedgerEntry.stripe_id, LedgerEntry.status, LedgerEntry.amount)
        .where(LedgerEntry.stripe_id.in_(facts))
        .ext(distinct_on(LedgerEntry.stripe_id))
        .order_by(LedgerEntry.stripe_id, LedgerEntry.id.desc())
    )
    known = {identifier: (status, amount) for identifier, status, amount in await ctx.db.execute(newest)}
    ctx.db.add_all(
        LedgerEntry(id=new_id(), customer_id=claim.id, recorded_at=clock.now(), **fact)
        for identifier, fact in facts.items()
        if known.get(identifier) != (fact["status"], fact["amount"])
    )


async def _rows(ctx: Context, statement: Select[Row]) -> list[Row]:
    return list((await ctx.db.execute(statement)).scalars())
