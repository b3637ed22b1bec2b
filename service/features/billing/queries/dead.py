"""What was given up on, as the page of dead letters shows it: customers, and messages of nobody we know."""

from __future__ import annotations

from sqlalchemy import ColumnClause, literal_column, select

from service.core.context import Context
from service.core.statements import Prepared
from service.features.billing.models import BillingCustomer, BillingSweep
from service.guardrails.actions import query
from service.guardrails.pagination import Page, Position
from service.guardrails.permissions import Who
from service.web.dead_letters import Letter, Lists, Sought, inbox
from service.web.system_facts import Fact

# Written out: as parameters, PostgreSQL could not know that the small indexes fit.
GIVEN_UP = (BillingCustomer.dirty_gen > BillingCustomer.synced_gen, BillingCustomer.dead_at.is_not(None))
UNMATCHED: ColumnClause[bool] = literal_column("inbox.source = 'stripe' AND inbox.state = 'unmatched'")
CUSTOMERS = Lists(
    select(
        BillingCustomer.id,
        BillingCustomer.stripe_customer_id.label("name"),
        BillingCustomer.organization_id,
        BillingCustomer.last_error.label("error"),
        BillingCustomer.failures.label("attempts"),
        BillingCustomer.dead_at.label("gave_up_at"),
    ).where(*GIVEN_UP),
    order=(BillingCustomer.id.desc(),),
    name=BillingCustomer.stripe_customer_id,
    identifier=BillingCustomer.id,
)
SWEEPS = Prepared(select(BillingSweep.stream, BillingSweep.ran_at, BillingSweep.drift).order_by(BillingSweep.stream))
MESSAGES = inbox(UNMATCHED)


@query("billing.facts", requires=Who.STAFF)
async def list_facts(ctx: Context) -> list[Fact]:
    """What the last comparison of each kind with Stripe found."""
    found = []
    for row in await ctx.fetch(SWEEPS):
        kinds = {kind: count for kind, count in row["drift"].items() if count}
        told = ", ".join(f"{kind.replace('_', ' ')}: {count}" for kind, count in sorted(kinds.items())) or "no drift"
        value = f"{told}; {row['ran_at']:%-d %b %H:%M} UTC"
        found.append(
            Fact(f"Billing against Stripe: {row['stream']}", value, "bad" if kinds else "good", "BillingDrift")
        )
    return found


@query("billing.dead_customers", requires=Who.STAFF)
async def list_dead_customers(ctx: Context, wanted: Sought, page: Position) -> Page[Letter]:
    return await CUSTOMERS.page(ctx, wanted, page)


@query("billing.count_dead_customers", requires=Who.STAFF)
async def count_dead_customers(ctx: Context) -> int:
    return await CUSTOMERS.count(ctx)


@query("billing.unmatched", requires=Who.STAFF)
async def list_unmatched(ctx: Context, wanted: Sought, page: Position) -> Page[Letter]:
    return await MESSAGES.page(ctx, wanted, page)


@query("billing.count_unmatched", requires=Who.STAFF)
async def count_unmatched(ctx: Context) -> int:
    return await MESSAGES.count(ctx)
