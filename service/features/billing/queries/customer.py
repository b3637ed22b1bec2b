"""What an organization sees of its plan: from our copy, so that it can be read while Stripe is away."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, bindparam, select

from service.core import clock
from service.core.context import Access, Context
from service.core.errors import NotFound
from service.features.billing.models import BillingCustomer, Invoice, Operation, Subscription
from service.features.billing.models.customer import living_in
from service.features.billing.models.derive import plan_of_item
from service.features.billing.models.mirror import LIVE, subscriptions_in_mode
from service.features.billing.models.operation import MUTATING, OPEN
from service.features.billing.models.plans import BY_KEY, CURRENCY, FREE, Plan
from service.features.billing.schemas import (
    BillingRead,
    InvoiceRead,
    OperationRead,
    SubscriptionRead,
    UsageRead,
    costs,
)
from service.guardrails import entitlements
from service.guardrails.actions import query
from service.guardrails.pagination import Keyset, Page, PageRequest, paginate
from service.guardrails.permissions import Role
from service.integrations.stripe.addresses import is_stripe_page
from service.integrations.stripe.readings import moment

INVOICES = Keyset(
    select(*(getattr(Invoice, name) for name in InvoiceRead.model_fields))
    .join(BillingCustomer, BillingCustomer.id == Invoice.customer_id)
    .where(Invoice.status != "draft", BillingCustomer.livemode == bindparam("livemode", type_=Boolean)),
    order=(Invoice.created_at.desc(), Invoice.stripe_id.desc()),
)
# The newest that may still earn a plan, else whatever there was.
NEWEST = Subscription.status.in_(LIVE).desc(), Subscription.created_at.desc()


@query("billing.read", requires=Role.VIEWER)
async def get_billing(ctx: Context) -> BillingRead:
    """The plan, what it is paid with, and how much of it is used."""
    held = await entitlements.of(ctx)
    mine = subscriptions_in_mode(ctx.organization_id, ctx.settings.stripe_livemode)
    row = (await ctx.db.execute(mine.order_by(*NEWEST).limit(1))).scalar_one_or_none()
    on_its_way = select(Operation.id).where(Operation.status.in_(OPEN), Operation.kind.in_(MUTATING)).limit(1)
    return BillingRead(
        plan=BY_KEY.get(held.plan, FREE),
        full_until=held.full_until,
        valid_until=held.valid_until,
        read_only=held.access(clock.now()) is Access.READ_ONLY,
        subscription=_described(row) if row is not None and row.status in LIVE else None,
        trial=row is None,
        usage=[
            UsageRead(feature=feature, used=await count(ctx), room=room)
            for feature, (count, room) in sorted(entitlements.COUNTERS.items())
        ],
        change_id=(await ctx.db.execute(on_its_way)).scalar_one_or_none(),
    )


@query("billing.list_invoices", requires=Role.ADMIN, while_impersonated=False)
async def list_invoices(ctx: Context, page: PageRequest) -> Page[InvoiceRead]:
    """Not for everybody: whoever holds an invoice's address sees the company's, and may pay."""
    found = await paginate(ctx, INVOICES, page, InvoiceRead, livemode=ctx.settings.stripe_livemode)
    for invoice in found.items:
        invoice.hosted_url, invoice.pdf_url = (
            address if address and (address.startswith("https://") or is_stripe_page(ctx.settings, address)) else None
            for address in (invoice.hosted_url, invoice.pdf_url)
        )
    return found


@query("billing.read_operation", requires=Role.ADMIN, while_impersonated=False)
async def get_operation(ctx: Context, operation_id: UUID) -> OperationRead:
    """What became of a change. Raises NotFound."""
    unread = (
        select(BillingCustomer.id)
        .where(*living_in(ctx.work.tenant, ctx.settings.stripe_livemode))
        .where(BillingCustomer.dirty_gen > BillingCustomer.synced_gen, BillingCustomer.dead_at.is_(None))
    )
    found = (await ctx.db.execute(select(Operation, unread.exists()).where(Operation.id == operation_id))).one_or_none()
    if found is None:
        raise NotFound("There is no such change.")
    row, is_unread = found
    return OperationRead(
        id=row.id,
        kind=row.kind,
        status=row.status,
        plan=BY_KEY.get(row.wish.get("plan", "")),
        error_code=row.error_code,
        created_at=row.created_at,
        url=row.result_url,
        unread=is_unread,
    )


@query("billing.find_customer", requires=Role.ADMIN)
async def find_customer(ctx: Context) -> UUID | None:
    """The organization's living customer at Stripe, by our id; None before the first checkout."""
    mine = select(BillingCustomer.id).where(*living_in(ctx.work.tenant, ctx.settings.stripe_livemode))
    return (await ctx.db.execute(mine)).scalar_one_or_none()


def _described(row: Subscription) -> SubscriptionRead:
    pending: dict[str, Any] = row.pending_update or {}
    waiting = [item.get("price") or {} for item in pending.get("subscription_items") or ()]
    return SubscriptionRead(
        stripe_id=row.stripe_id,
        status=row.status,
        plan=_first_plan(row.items),
        seats=max((item["quantity"] or 0 for item in row.items), default=0),
        costs=costs(row.items, row.currency or CURRENCY),
        trial_end=row.trial_end if row.status == "trialing" else None,
        period_start=row.period_start,
        period_end=row.period_end,
        ends_at=row.ends_at,
        pending=_first_plan(waiting),
        pending_until=moment(pending.get("expires_at")),
    )


def _first_plan(items: list[dict[str, Any]]) -> Plan | None:
    return next((plan for item in items if (plan := plan_of_item(item))), None)
