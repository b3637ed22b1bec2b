"""Messages that belong to no customer we know: find out whose they are, wait for the tie, or leave them to people.

The tie between an organization and its customer is ours. `client_reference_id` and metadata propose one only where
there is none yet, because everybody with access to Stripe's dashboard can edit them; nothing is ever tied by e-mail.
"""

from __future__ import annotations

from typing import Any

import asyncpg

from service.core.context import Resources
from service.core.database import Database, UnitOfWork
from service.core.logging import get_logger
from service.features.billing.actions.marks import tie
from service.features.billing.flows import metrics
from service.features.billing.flows.receive import HEALTH
from service.features.billing.models.customer import DIRTY
from service.integrations.stripe.client import StripeApi
from service.integrations.stripe.errors import StripeFailed, StripeRefused
from service.integrations.stripe.pace import Urgency
from service.integrations.stripe.readings import id_of, organization_in

log = get_logger()

ATTEMPTS = 12
AT_ONCE = 20
COLLECTIONS = {
    "charge": "charges", "checkout.session": "checkout/sessions",
    "credit_note": "credit_notes", "dispute": "disputes", "invoice": "invoices", "invoiceitem": "invoiceitems",
    "payment_intent": "payment_intents", "payment_method": "payment_methods", "refund": "refunds",
    "subscription": "subscriptions",
}  # fmt: skip

# Taken by moving its next attempt: whoever dies with it leaves it to the next round, and holds no lock meanwhile.
TAKE = """
    UPDATE inbox SET attempts = attempts + 1,
        next_attempt_at = now() + least(interval '30 minutes', interval '5 seconds' * power(2, attempts)),
        state = CASE WHEN attempts + 1 >= $1 THEN 'ignored' ELSE state END,
        reason = CASE WHEN attempts + 1 >= $1 THEN 'foreign' ELSE reason END
    WHERE id IN (
        SELECT id FROM inbox WHERE source = 'stripe' AND state = 'unmatched' AND next_attempt_at <= now()
        ORDER BY next_attempt_at LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    RETURNING id, type, subject, facts, attempts
"""
ADOPT = f"""
    WITH mark AS (
        UPDATE billing_customers SET {DIRTY}, dirty_since = coalesce(dirty_since, now())
        WHERE stripe_customer_id = $2 RETURNING dirty_gen
    )
    UPDATE inbox SET subject = $2, gen = mark.dirty_gen, state = 'pending', reason = ''
    FROM mark WHERE inbox.id = $1 AND inbox.reason <> 'discarded'
    RETURNING inbox.id
"""  # noqa: S608 - our own constant
# An answer is asked for once, but until there is one: neither our death nor Stripe's silence is one.
ASKED = """UPDATE inbox SET facts = facts || '{"asked": true}' WHERE id = $1 AND NOT facts ? 'asked'"""
# Staff may have discarded it, or begun its count anew, while Stripe was asked: what they decided stands.
AWAY = """
    UPDATE inbox SET attempts = greatest(attempts - 1, 0), state = 'unmatched', reason = ''
    WHERE id = $1 AND gen IS NULL AND reason <> 'discarded'
"""
SETTLE = "UPDATE inbox SET state = $2, reason = $3, processed_at = now() WHERE id = $1"
BY_CHARGE = """
    SELECT stripe_customer_id FROM billing_ledger JOIN billing_customers ON billing_customers.id = customer_id
    WHERE stripe_id = $1 LIMIT 1
"""
EXISTS = "SELECT EXISTS (SELECT FROM organizations WHERE id = $1 AND deleted_at IS NULL)"
TIED = "SELECT 1 FROM billing_customers WHERE organization_id = $1 AND stripe_customer_id = $2"
RECHECK = "UPDATE billing_sweeps SET ran_at = 'epoch' WHERE stream = 'objects'"


async def resolve_messages(resources: Resources, maintenance: Database) -> int:
    """One round; how many messages were looked at."""
    async with maintenance.connection() as connection:
        taken = await UnitOfWork(connection).raw.fetch(TAKE, ATTEMPTS, AT_ONCE)
    for row in taken:
        try:
            await _resolve(resources, maintenance, row)
            asked = True
        except StripeFailed as error:
            log.warning("message not resolved", message=row["id"], error=str(error))
            asked = isinstance(error, StripeRefused)
        async with maintenance.connection() as connection:
            await UnitOfWork(connection).raw.execute(ASKED if asked else AWAY, row["id"])
    return len(taken)


async def _resolve(resources: Resources, maintenance: Database, row: asyncpg.Record) -> None:
    facts: dict[str, Any] = row["facts"]
    if row["type"].startswith(HEALTH):
        async with maintenance.unit_of_work() as work:
            await work.raw.execute(RECHECK)
            await work.raw.execute(SETTLE, row["id"], "processed", "objects are compared")
        return
    customer = row["subject"] or await _customer_of(resources, maintenance, facts, first="asked" not in facts)
    if customer is None:
        return
    async with maintenance.unit_of_work() as work:
        if await work.raw.fetchval(ADOPT, row["id"], customer):
            return
    if "asked" not in facts:  # Stripe is asked once; after that only a tie of our own making can help
        await _propose(resources, customer, facts)


async def _customer_of(
    resources: Resources, maintenance: Database, facts: dict[str, Any], *, first: bool
) -> str | None:
    """By the charge we have on our books, else by asking Stripe for the object."""
    if charge := facts.get("charge"):
        async with maintenance.unit_of_work(read_only=True) as work:
            if known := await work.raw.fetchval(BY_CHARGE, charge):
                return str(known)
    path, identifier = COLLECTIONS.get(str(facts.get("object_type"))), facts.get("object_id")
    if not (first and path and identifier):
        return None
    api = resources.get(StripeApi)
    thing = await api.call("get", f"/v1/{path}/{identifier}", urgency=Urgency.WEBHOOK)
    found = id_of(thing.get("customer"))
    if found is None and (charge := id_of(thing.get("charge"))):
        found = id_of((await api.call("get", f"/v1/charges/{charge}", urgency=Urgency.WEBHOOK)).get("customer"))
    return found


async def _propose(resources: Resources, customer: str, facts: dict[str, Any]) -> None:
    thing = await resources.get(StripeApi).call("get", f"/v1/customers/{customer}", urgency=Urgency.WEBHOOK)
    hints = (facts.get("reference"), facts.get("organization"))
    proposals = [organization_in({"metadata": {"organization_id": hint}}) for hint in hints]
    proposed = next(filter(None, [*proposals, organization_in(thing)]), None)
    if proposed is None:
        return
    async with resources.database.unit_of_work(tenant=proposed) as work:
        if not await work.raw.fetchval(EXISTS, proposed):
            return
        tied = await tie(work, proposed, customer, livemode=resources.settings.stripe_livemode)
        # Our own call, whose event this may be, may have made the very same tie a moment ago.
        if tied is None and not await work.raw.fetchval(TIED, proposed, customer):
            metrics.alarms.labels("two customers").inc()
            log.error("billing alarm", alarm="two customers for one organization", organization=str(proposed))
