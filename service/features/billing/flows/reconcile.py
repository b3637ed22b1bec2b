"""Compare our copy with Stripe, object by object: the only thing that finds an event which was never made.

What differs is remembered with its customer's generation and looked at again a minute later: if somebody has told us
of it by then, it was merely on its way. Only what nobody told us of is counted as drift. It is mended by marking the
customer dirty, never by writing: there is one writer.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from service.core import clock
from service.core.context import Resources
from service.core.database import Database, UnitOfWork
from service.core.logging import get_logger
from service.features.billing.flows.drift import LOCAL, local_arguments
from service.features.billing.models.customer import DIRTY
from service.features.billing.models.mirror import LIVE, TERMINAL
from service.features.billing.models.plans import BY_LOOKUP_KEY
from service.integrations.stripe.client import PAGE, StripeApi
from service.integrations.stripe.pace import Urgency
from service.integrations.stripe.readings import id_of, subscription_columns

log = get_logger()

EVERYTHING = "night"
"""The sweep that compares everything both ways."""
BE_DUE = "UPDATE billing_sweeps SET ran_at = 'epoch' WHERE stream = $1"
ON_ITS_WAY = 60.0
"""Seconds in which a change that is on its way has reached us: marked, if not yet read."""
MONEY_WINDOW = timedelta(days=35)
"""How far back invoices and charges are compared: a billing month and some days."""
AT_ONCE = 500
MOST = 10_000_000
EXAMPLES = 20

Thing = dict[str, Any]
Found = dict[str, list[str]]
"""Kind of drift -> Stripe's ids, or our own where Stripe has none."""

SETTLED = "dirty_gen = synced_gen AND coalesce(last_synced_at < $1, true) AND livemode = $2"
"""Nothing is unread, and nothing was read since the page was asked for: only then a difference means something."""
PAGE_OF = """
    SELECT asked.id, customer.id AS customer_id, dirty_gen AS gen, {settled} AS settled, ({copy}) AS copy
    FROM unnest($3::text[], $4::text[]) AS asked(id, customer)
    LEFT JOIN billing_customers AS customer ON stripe_customer_id = asked.customer
"""
REST = """
    SELECT stripe_id AS id, customer.id AS customer_id, dirty_gen AS gen
    FROM billing_customers AS customer JOIN {table} AS copy ON copy.customer_id = customer.id
    WHERE {settled} AND copy.status <> ALL($3::text[]) AND copy.created_at >= $4
"""
# In the order of their ids, as everywhere: two who mark many must not wait for each other.
TELL = f"""
    WITH same AS (
        SELECT billing_customers.id FROM billing_customers JOIN unnest($1::uuid[], $2::bigint[]) AS seen(id, gen)
            ON seen.id = billing_customers.id AND dirty_gen = gen AND synced_gen = gen
        ORDER BY billing_customers.id FOR UPDATE OF billing_customers
    )
    UPDATE billing_customers SET {DIRTY}, dirty_since = coalesce(dirty_since, now())
    FROM same WHERE billing_customers.id = same.id RETURNING same.id
"""  # noqa: S608 - our own constants
KNOWN = "SELECT stripe_customer_id FROM billing_customers WHERE stripe_customer_id = ANY($1)"


@dataclass(frozen=True, slots=True)
class Copied:
    """A kind of object, and what must be equal: `told` of Stripe's (None: we keep no copy), `copy` (SQL) of ours."""

    path: str
    told: Callable[[Thing], str | None]
    copy: str
    kind: str = "state_differs"
    table: str = ""
    over: tuple[str, ...] = ()
    """States in which ours may well be missing there."""


SUBSCRIPTIONS = Copied(
    "/v1/subscriptions",
    lambda thing: str(subscription_columns(thing)["digest"]),
    "SELECT digest FROM billing_subscriptions WHERE stripe_id = asked.id",
    table="billing_subscriptions",
    over=TERMINAL,
)
INVOICES = Copied(
    "/v1/invoices",
    lambda thing: "/".join(str(thing.get(name)) for name in ("status", "total", "amount_paid", "attempt_count")),
    "SELECT concat_ws('/', status, total, amount_paid, attempt_count) FROM billing_invoices WHERE stripe_id = asked.id",
    table="billing_invoices",
    over=("draft",),
)
LEDGER = Copied(
    "/v1/charges",
    lambda thing: f"{thing['amount_captured']}/{thing['amount_refunded']}" if thing.get("amount_captured") else None,
    """
    SELECT concat_ws('/',
        (SELECT amount FROM billing_ledger WHERE stripe_id = asked.id ORDER BY id DESC LIMIT 1),
        (SELECT coalesce(sum(amount), 0) FROM (
            SELECT DISTINCT ON (stripe_id) amount, status FROM billing_ledger
            WHERE customer_id = customer.id AND about = asked.id AND kind = 'refund' ORDER BY stripe_id, id DESC
        ) AS refund WHERE status IN ('succeeded', 'pending')))
    """,
    kind="ledger_differs",
)


@dataclass(slots=True)
class Look:
    """What one sweep has seen so far."""

    resources: Resources
    maintenance: Database
    suspects: list[tuple[str, str, UUID, int]] = field(default_factory=list)
    """(kind, id, customer, its generation when the difference was seen)."""
    strangers: dict[str, str] = field(default_factory=dict)
    """Subscriptions to our plans by customers that we do not know."""


async def compare_objects(
    resources: Resources, maintenance: Database, *, full: bool = False, settle: float = ON_ITS_WAY
) -> Found:
    """Compare what has not ended; with `full` everything both ways, money too. Raises StripeFailed."""
    look = Look(resources, maintenance)
    await _compare(look, SUBSCRIPTIONS, {"status": "all"} if full else {}, missing="local_only" if full else "")
    if full:
        window = int((clock.now() - MONEY_WINDOW).timestamp())
        await _compare(look, INVOICES, {"created": {"gte": window}}, missing="local_only", since=window)
        await _compare(look, LEDGER, {"created": {"gte": window}})
    await asyncio.sleep(settle)
    found = await _confirm(look)
    for kind, ids in found.items():
        log.error("billing drift", kind=kind, count=len(ids), examples=ids[:EXAMPLES])
    return found


def counts(found: Found) -> dict[str, int]:
    return {kind: len(ids) for kind, ids in found.items()}


async def pages(
    resources: Resources, path: str, params: Thing, urgency: Urgency = Urgency.SWEEP
) -> AsyncIterator[tuple[datetime, list[Thing]]]:
    """Each page of a list, with the database's time before it was asked for; nothing is held in between."""
    page: list[Thing] = []
    began = await _database_time(resources)
    async for thing in resources.get(StripeApi).every(path, params, urgency=urgency, most=MOST):
        page.append(thing)
        if len(page) == PAGE:
            yield began, page
            page, began = [], await _database_time(resources)
    yield began, page


async def _compare(look: Look, what: Copied, params: Thing, *, missing: str = "", since: int = 0) -> None:
    livemode, seen = look.resources.settings.stripe_livemode, set[str]()
    start = await _database_time(look.resources)
    statement = PAGE_OF.format(settled=SETTLED, copy=what.copy)
    async for began, page in pages(look.resources, what.path, params):
        told = {str(thing["id"]): thing for thing in page}
        owners = [id_of(thing.get("customer")) for thing in told.values()]
        async with look.maintenance.connection() as connection:
            rows = await UnitOfWork(connection).raw.fetch(statement, began, livemode, list(told), owners)
        seen |= told.keys()
        for row in rows:
            _judge(look, what, row, told[row["id"]])
    if what.table:
        statement = REST.format(settled=SETTLED, table=what.table)
        moment = datetime.fromtimestamp(since, start.tzinfo)
        async with look.maintenance.connection() as connection:
            rows = await UnitOfWork(connection).raw.fetch(statement, start, livemode, list(what.over), moment)
        rest = [row for row in rows if row["id"] not in seen]
        # Where Stripe lists only what has not ended, what is missing there has ended: a difference of state.
        look.suspects += [(missing or what.kind, row["id"], row["customer_id"], row["gen"]) for row in rest]


def _judge(look: Look, what: Copied, row: Any, thing: Thing) -> None:
    told = what.told(thing)
    if told is None or told == row["copy"]:
        return
    if row["customer_id"] is None:
        if what is SUBSCRIPTIONS and thing.get("status") in LIVE and _is_ours(thing):
            look.strangers[row["id"]] = str(id_of(thing.get("customer")))
    elif row["settled"]:
        kind = "stripe_only" if row["copy"] is None else what.kind
        look.suspects.append((kind, row["id"], row["customer_id"], row["gen"]))


async def _confirm(look: Look) -> Found:
    """What is still as it was when it looked different; its customers are read again."""
    found: Found = defaultdict(list)
    async with look.maintenance.connection() as connection:
        arguments = local_arguments(look.resources.settings.stripe_livemode)
        rows = await UnitOfWork(connection).raw.fetch(LOCAL, *arguments)
    for row in rows:
        if row["customer_id"] is None:
            found[row["kind"]].append(row["id"])
        else:
            look.suspects.append((row["kind"], row["id"], row["customer_id"], row["gen"]))
    gens = {customer: gen for _, _, customer, gen in look.suspects}
    told: set[UUID] = set()
    async with look.resources.database.connection() as connection:
        raw = UnitOfWork(connection).raw
        for some in (list(gens)[n : n + AT_ONCE] for n in range(0, len(gens), AT_ONCE)):
            told |= {row["id"] for row in await raw.fetch(TELL, some, [gens[one] for one in some])}
        known = {row[0] for row in await raw.fetch(KNOWN, list(look.strangers.values()))}
    for kind, identifier, customer, gen in look.suspects:
        if customer in told and gen == gens[customer]:
            found[kind].append(identifier)
    for identifier, stranger in look.strangers.items():
        if stranger not in known:
            found["customer_without_organization"].append(identifier)
    return dict(found)


def _is_ours(thing: Thing) -> bool:
    """Another product may share the account; its subscriptions are its own business."""
    items = (thing.get("items") or {}).get("data") or []
    return any((item.get("price") or {}).get("lookup_key") in BY_LOOKUP_KEY for item in items)


async def _database_time(resources: Resources) -> datetime:
    """Of the clock that stamps readings; this machine's may differ."""
    async with resources.database.connection() as connection:
        now: datetime = await UnitOfWork(connection).raw.fetchval("SELECT now()")
    return now
