"""After the storm: what Stripe holds against what we hold, kind by kind; each sentence is something that is wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeAlias

import asyncpg

from infra.sandbox.mail import Message
from infra.sandbox.stripe.store import Obj
from service.features.billing.models.plans import BY_LOOKUP_KEY
from tests.features.billing.storm.people import ENDED, Household

Superuser: TypeAlias = "asyncpg.Connection[Any]"
STUCK = {
    "a customer is not read, leased or given up": """
        SELECT stripe_customer_id FROM billing_customers
        WHERE dirty_gen <> synced_gen OR lease_token IS NOT NULL OR dead_at IS NOT NULL
    """,
    "a message waits": """
        SELECT external_id FROM inbox WHERE state IN ('pending', 'dead') OR state = 'unmatched' AND attempts < 2
    """,
    "a sweep has not come round": "SELECT stream FROM billing_sweeps WHERE ran_at = 'epoch'",
    "an operation is open": "SELECT id FROM billing_operations WHERE status IN ('planned', 'in_flight', 'unknown')",
    "a job waits or was given up": "SELECT concat_ws(' ', entrypoint, status, attempts) FROM pgqueuer",
    "an effect has no outcome": "SELECT effect_key FROM billing_effects WHERE outcome IS NULL",
}
MIXED = {
    "a copy belongs to another organization than its customer": """
        SELECT stripe_id FROM (
            SELECT stripe_id, customer_id, organization_id FROM billing_subscriptions
            UNION ALL SELECT stripe_id, customer_id, organization_id FROM billing_invoices
            UNION ALL SELECT stripe_id, customer_id, organization_id FROM billing_ledger
        ) AS copy JOIN billing_customers AS customer ON customer.id = customer_id
        WHERE copy.organization_id <> customer.organization_id
    """,
    "an operation changes another organization's subscription": """
        SELECT operation.id FROM billing_operations AS operation
            JOIN billing_subscriptions AS held ON held.stripe_id = wish ->> 'subscription'
        WHERE operation.organization_id <> held.organization_id
    """,
    "an effect is about another organization's subscription or invoice": """
        SELECT effect_key FROM billing_effects AS effect JOIN (
            SELECT stripe_id, organization_id FROM billing_subscriptions
            UNION ALL SELECT stripe_id, organization_id FROM billing_invoices
        ) AS copy ON copy.stripe_id = split_part(effect_key, ':', 2)
        WHERE copy.organization_id <> effect.organization_id
    """,
    "the ledger names a fact twice": """
        SELECT stripe_id FROM billing_ledger GROUP BY kind, stripe_id, status, amount HAVING count(*) > 1
    """,
    "a message is saved twice": "SELECT external_id FROM inbox GROUP BY external_id HAVING count(*) > 1",
}
PLANTED = "SELECT {columns} FROM {table} ORDER BY 1"
TENANTS = {"organizations": "id", "users": "id", "indicators": "id, organization_id"}


async def listed(superuser: Superuser, questions: dict[str, str]) -> list[str]:
    """One line for each question that finds something."""
    found = {sentence: await superuser.fetch(sql) for sentence, sql in questions.items()}
    return [f"{sentence}: {[row[0] for row in rows][:5]} ({len(rows)})" for sentence, rows in found.items() if rows]


async def tenant_rows(superuser: Superuser) -> dict[str, list[tuple[Any, ...]]]:
    """What belongs to customers and must outlive every event."""
    return {
        table: [tuple(row) for row in await superuser.fetch(PLANTED.format(table=table, columns=columns))]
        for table, columns in TENANTS.items()
    }


async def wrong_about(superuser: Superuser, home: Household) -> list[str]:
    """One customer: copy, plan, money, seats, effects."""
    account, stripe_id = home.account, home.customer.customer
    with account.lock:
        told = {kind: account.store.of(kind, customer=stripe_id) for kind in ("subscription", "invoice", "charge")}
    found = [*await _copies(superuser, told)]
    row = await superuser.fetchrow("SELECT * FROM entitlements WHERE organization_id = $1", home.organization)
    wanted = _plan(told["subscription"])
    if (row["plan"] if row else "free") != wanted:
        found.append(f"plan {row['plan'] if row else 'free'}, should be {wanted}")
    found += await _money(superuser, home, told["charge"])
    found += await _operations(superuser, home, told["invoice"])
    keys = {row["effect_key"] for row in await superuser.fetch(EFFECTS, home.organization)}
    if missing := {*facts(told)} - keys:
        found.append(f"nothing was set off by {sorted(missing)}")
    return [f"{stripe_id}: {text}" for text in found]


EFFECTS = "SELECT effect_key, outcome FROM billing_effects WHERE organization_id = $1"
COPIES = {
    "subscription": (
        "billing_subscriptions",
        ("status", "cancel_at", "cancel_at_period_end", "canceled_at", "ended_at"),
    ),
    "invoice": ("billing_invoices", ("status", "total", "amount_due", "amount_paid", "attempt_count")),
}


async def _copies(superuser: Superuser, told: dict[str, list[Obj]]) -> list[str]:
    """Column by column, in words of our own: the product's comparison shares its readings with the product."""
    found = []
    for kind, (table, columns) in COPIES.items():
        for thing in told[kind]:
            row = await superuser.fetchrow(f"SELECT * FROM {table} WHERE stripe_id = $1", thing["id"])
            ours = {name: _seconds(row[name]) for name in columns} if row else {}
            theirs = {name: thing[name] for name in columns}
            if kind == "subscription" and row:
                ours["items"] = [(one["price"], one["quantity"], one["period_end"]) for one in json.loads(row["items"])]
                theirs["items"] = [
                    (one["price"]["id"], one["quantity"], one["current_period_end"]) for one in thing["items"]["data"]
                ]
            if ours != theirs:
                found.append(f"{thing['id']} is {ours}, should be {theirs}")
    return found


async def _money(superuser: Superuser, home: Household, charges: list[Obj]) -> list[str]:
    rows = await superuser.fetch(
        "SELECT DISTINCT ON (stripe_id) kind, amount, status FROM billing_ledger WHERE organization_id = $1"
        " ORDER BY stripe_id, id DESC",
        home.organization,
    )
    ours = Counter[str]()
    for row in rows:
        ours[row["kind"]] += row["amount"] * (row["status"] == "succeeded")
    theirs = {
        "charge": sum(one["amount_captured"] for one in charges),
        "refund": sum(one["amount_refunded"] for one in charges),
    }
    over = [one["id"] for one in charges if one["amount_refunded"] > one["amount_captured"]]
    found = [f"more given back than taken: {over}"] if over else []
    return found + [f"{kind}s of {ours[kind]}, should be {sum_}" for kind, sum_ in theirs.items() if ours[kind] != sum_]


async def _operations(superuser: Superuser, home: Household, invoices: list[Obj]) -> list[str]:
    """No wish became two changes: a change of plan makes one invoice, a refund one refund."""
    rows = await superuser.fetch(
        "SELECT id, kind FROM billing_operations WHERE organization_id = $1 AND first_sent_at IS NOT NULL",
        home.organization,
    )
    asked = sum(row["kind"] == "change_plan" for row in rows) + home.changed
    made = sum(one["billing_reason"] == "subscription_update" for one in invoices)
    found = [f"{made} changes were invoiced, and {asked} asked for"] if made > asked else []
    with home.account.lock:
        marks = Counter(one["metadata"].get("operation_id") for one in home.account.store.of("refund"))
    return found + [f"refund {row['id']} was made twice" for row in rows if marks[str(row["id"])] > 1]


def facts(told: dict[str, list[Obj]]) -> Iterator[str]:
    """Keys of what must have set off a notice, by Stripe's own state."""
    for one in told["subscription"]:
        if one["status"] == "canceled":
            yield f"ended:{one['id']}"
    for one in told["invoice"]:
        if one["parent"] and one["status"] == "paid" and one["attempt_count"] > 1:
            yield f"recovered:{one['id']}"
        elif one["parent"] and one["status"] == "open" and one["attempt_count"]:
            yield f"payment_failed:{one['id']}:{one['attempt_count']}"


async def wrong_mails(superuser: Superuser, homes: Iterable[Household], messages: Iterable[Message]) -> list[str]:
    """Each notice that was sent was sent to the owner, under one name; no other mail about money left the house.

    A mail that left just before its sender was killed leaves again under the same Message-ID, which is how mailboxes
    tell (RFC 5322, 3.6.4): what counts is the names.
    """
    names = [dict(one.headers)["Message-ID"].strip("<>").partition("@")[0] for one in messages]
    sent, found = Counter(name for name in names if name.startswith("billing.")), []
    for home in homes:
        for row in await superuser.fetch(EFFECTS, home.organization):
            name = f"billing.{row['effect_key'].replace(':', '.')}.{home.owner.id}"
            copies = sent.pop(name, 0)
            if (row["outcome"] == "sent") != bool(copies):
                found.append(f"{row['effect_key']} is {row['outcome']}, and {copies} mails left")
    return found + [f"mails about nothing we know: {sorted(sent)}"] * bool(sent)


def _plan(subscriptions: list[Obj]) -> str:
    """What the table of states says, for one subscription at a time; more than one: the best that is paid."""
    live = [one for one in subscriptions if one["status"] not in (*ENDED, "incomplete")]
    paid = [one for one in live if one["status"] in ("active", "trialing")] or live
    plans = [BY_LOOKUP_KEY[one["items"]["data"][0]["price"]["lookup_key"]] for one in paid]
    return max(plans, key=lambda plan: plan.rank).key if plans else "free"


def _seconds(value: Any) -> Any:
    return int(value.astimezone(UTC).timestamp()) if isinstance(value, datetime) else value
