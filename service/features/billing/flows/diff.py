"""One customer, column by column: what our copy says and what Stripe says, for whoever looks into it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on

from service.core.context import Resources
from service.core.database import UnitOfWork
from service.features.billing.flows.snapshot import Snapshot, fetch_snapshot
from service.features.billing.models import BillingCustomer, Invoice, LedgerEntry, Subscription
from service.features.billing.models.mirror import TERMINAL
from service.integrations.stripe.client import StripeApi
from service.integrations.stripe.pace import Urgency
from service.integrations.stripe.readings import invoice_columns, ledger_facts, subscription_columns

MONEY = ("status", "amount")


@dataclass(frozen=True, slots=True)
class Difference:
    """`ours` and `stripes` are None where the whole object is missing (column "object") or the column is empty."""

    object: str
    column: str
    ours: Any
    stripes: Any


async def diff(resources: Resources, customer: BillingCustomer, urgency: Urgency = Urgency.PERSON) -> list[Difference]:
    """What differs now; with nothing open while Stripe is read. Raises StripeFailed.

    A customer that waits to be read may well differ: that is what it waits for.
    """
    snapshot = await fetch_snapshot(resources.get(StripeApi), customer.stripe_customer_id, None, urgency)
    async with resources.database.unit_of_work(tenant=customer.organization_id, read_only=True) as work:
        subscriptions, invoices = await _copy(work, Subscription, customer), await _copy(work, Invoice, customer)
        ledger = {row["stripe_id"]: row for row in await _ledger(work, customer)}
    found = [*_gone(customer, snapshot)]
    theirs = {str(thing["id"]): subscription_columns(thing) for thing in snapshot.subscriptions}
    if snapshot.deleted:  # of a customer that is gone Stripe may list nothing; what has ended is no difference then
        over = {name for name, row in subscriptions.items() if row["status"] in TERMINAL} - theirs.keys()
        subscriptions = {name: row for name, row in subscriptions.items() if name not in over}
    found += _compare(subscriptions, theirs)
    if not snapshot.deleted:
        bills = {str(thing["id"]): invoice_columns(thing, snapshot.waiting) for thing in snapshot.invoices or ()}
        found += _compare(invoices, bills)
        facts = [fact for kind, thing in snapshot.money or () for fact in ledger_facts(kind, thing)]
        found += _compare(ledger, {fact["stripe_id"]: {name: fact[name] for name in MONEY} for fact in facts})
    return found


def _gone(customer: BillingCustomer, snapshot: Snapshot) -> Iterator[Difference]:
    if snapshot.deleted != (customer.deleted_at is not None):
        yield Difference(customer.stripe_customer_id, "deleted", customer.deleted_at is not None, snapshot.deleted)


def _compare(ours: dict[str, Any], theirs: dict[str, dict[str, Any]]) -> Iterator[Difference]:
    for name in sorted(ours.keys() | theirs.keys()):
        mine, told = ours.get(name), theirs.get(name)
        if mine is None or told is None:
            yield Difference(name, "object", mine and mine["status"], told and told["status"])
            continue
        for column, value in told.items():
            # The digest says that something differs; the other columns say what.
            if column != "digest" and mine[column] != value:
                yield Difference(name, column, mine[column], value)


async def _copy(
    work: UnitOfWork, model: type[Subscription] | type[Invoice], customer: BillingCustomer
) -> dict[str, Any]:
    rows = (await work.session.execute(select(model).where(model.customer_id == customer.id))).scalars()
    return {str(vars(row)["stripe_id"]): vars(row) for row in rows}


async def _ledger(work: UnitOfWork, customer: BillingCustomer) -> list[Any]:
    """The newest line of each charge, refund, dispute and credit note."""
    statement = (
        select(LedgerEntry.stripe_id, *(getattr(LedgerEntry, name) for name in MONEY))
        .where(LedgerEntry.customer_id == customer.id)
        .ext(distinct_on(LedgerEntry.stripe_id))
        .order_by(LedgerEntry.stripe_id, LedgerEntry.id.desc())
    )
    return list((await work.session.execute(statement)).mappings())
