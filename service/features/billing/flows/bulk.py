"""When thousands wait (the first of the month, the morning after an outage): plans first, a hundred to a call.

Reading customer by customer takes three calls each. This writes only what decides about plans, the subscriptions, and
leaves everybody waiting for the whole reading: a page of subscriptions says nothing of invoices, nor that it is all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import asyncpg

from service.core import clock
from service.core.context import Resources
from service.core.database import UnitOfWork
from service.core.ids import new_id
from service.core.logging import get_logger
from service.features.billing.flows.apply import apply_snapshot
from service.features.billing.flows.claim import Claim
from service.features.billing.flows.reconcile import pages
from service.features.billing.flows.snapshot import Snapshot
from service.integrations.stripe.pace import Urgency
from service.integrations.stripe.readings import id_of

log = get_logger()

MANY = 2_000
# Whoever was read since the first unread message is left to the queue; dirty_gen stays ahead, so nobody is forgotten.
WAITING = """
    SELECT id, organization_id, stripe_customer_id, sync_version, synced_gen AS gen FROM billing_customers
    WHERE dirty_gen > synced_gen AND dead_at IS NULL AND livemode = $1
      AND (lease_until IS NULL OR lease_until < now()) AND (last_synced_at IS NULL OR last_synced_at < dirty_since)
"""


async def read_in_bulk(resources: Resources, many: int = MANY) -> int:
    """Bring the plans of all who wait up to date, if more than `many` do; how many were written."""
    async with resources.database.connection() as connection:
        rows = await UnitOfWork(connection).raw.fetch(WAITING, resources.settings.stripe_livemode)
    if len(rows) <= many:
        return 0
    # The versions were read before any page is: what is written in between wins, and the page is thrown away.
    held = {row["stripe_customer_id"]: _claim(row) for row in rows}
    written = 0
    async for _, page in pages(resources, "/v1/subscriptions", {"status": "all"}, Urgency.WEBHOOK):
        found: dict[str, list[dict[str, Any]]] = {}
        for thing in page:
            found.setdefault(str(id_of(thing.get("customer"))), []).append(thing)
        for customer in found.keys() & held.keys():
            claim = held.pop(customer)
            if await _write(resources, claim, found[customer]):
                held[customer] = replace(claim, sync_version=claim.sync_version + 1)
                written += 1
    log.info("billing bulk", waiting=len(rows), written=written)
    return written


def _claim(row: asyncpg.Record) -> Claim:
    """Without a lease: what is written under the version needs none."""
    return Claim(**dict(row), failures=0, dirty_since=None, lease_token=new_id(), touched=(), ended=frozenset())


async def _write(resources: Resources, claim: Claim, subscriptions: list[dict[str, Any]]) -> bool:
    try:
        async with resources.database.unit_of_work(tenant=claim.organization_id) as work:
            return await apply_snapshot(resources, work, claim, Snapshot(clock.now(), subscriptions))
    except Exception as error:  # one customer's trouble stays that customer's: it is still in the queue
        log.warning("billing bulk skipped", customer=str(claim.id), error=type(error).__name__)
        return False
