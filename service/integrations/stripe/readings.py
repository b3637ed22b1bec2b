"""Stripe's objects as our columns: every column every time, nulls included, at the API version we ask for.

Periods stand on the items since 2025-03-31 and the subscription of an invoice under its parent
(https://docs.stripe.com/changelog/basil). What is missing is None, never an error: an account changes under our feet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

Thing = dict[str, Any]
STATUSES = (
    "trialing", "active", "past_due", "unpaid", "paused", "incomplete", "incomplete_expired", "canceled",
)  # fmt: skip
"""Of a subscription (https://docs.stripe.com/api/subscriptions/object)."""
UNKNOWN = "unknown"
"""For a word that did not exist when this was written."""
AMOUNT_OF = {"charge": "amount_captured", "credit_note": "total"}


def subscription_columns(thing: Thing) -> Thing:
    """A row of billing_subscriptions without its keys and `fetched_at`."""
    items = [_item(item) for item in _data(thing.get("items"))]
    starts = [item["period_start"] for item in items if item["period_start"]]
    ends = [item["period_end"] for item in items if item["period_end"]]
    status = str(thing.get("status"))
    columns = {
        "status": status if status in STATUSES else UNKNOWN,
        "currency": str(thing.get("currency") or ""),
        "items": items,
        "cancel_at": moment(thing.get("cancel_at")),
        "cancel_at_period_end": bool(thing.get("cancel_at_period_end")),
        "canceled_at": moment(thing.get("canceled_at")),
        "ended_at": moment(thing.get("ended_at")),
        "trial_start": moment(thing.get("trial_start")),
        "trial_end": moment(thing.get("trial_end")),
        "period_start": moment(min(starts, default=None)),
        "period_end": moment(max(ends, default=None)),
        "collection_method": thing.get("collection_method"),
        "pause_collection": thing.get("pause_collection"),
        "pending_update": thing.get("pending_update"),
        "schedule_id": id_of(thing.get("schedule")),
        "latest_invoice_id": id_of(thing.get("latest_invoice")),
        "created_at": moment(thing.get("created")),
    }
    return columns | {"digest": digest(columns)}


def invoice_columns(thing: Thing, waiting: frozenset[str] = frozenset()) -> Thing:
    """A row of billing_invoices without its keys and `fetched_at`; amounts are Stripe's, never ours.

    `waiting` are the payment intents that the customer's bank wants them to confirm.
    """
    parent = (thing.get("parent") or {}).get("subscription_details") or {}
    columns = {
        "subscription_id": id_of(parent.get("subscription")),
        "number": thing.get("number"),
        "reason": thing.get("billing_reason"),
        "status": str(thing.get("status") or "draft"),
        "currency": str(thing.get("currency") or ""),
        "total": int(thing.get("total") or 0),
        "amount_due": int(thing.get("amount_due") or 0),
        "amount_paid": int(thing.get("amount_paid") or 0),
        "attempt_count": int(thing.get("attempt_count") or 0),
        "next_attempt_at": moment(thing.get("next_payment_attempt")),
        "needs_action": not waiting.isdisjoint(intents_of(thing)),
        "hosted_url": thing.get("hosted_invoice_url"),
        "pdf_url": thing.get("invoice_pdf"),
        "period_start": moment(thing.get("period_start")),
        "period_end": moment(thing.get("period_end")),
        "created_at": moment(thing.get("created")),
    }
    return columns | {"digest": digest(columns)}


def ledger_facts(kind: str, thing: Thing) -> Iterator[Thing]:
    """A row of billing_ledger without its keys; a charge that never took money is no fact about money."""
    amount = int(thing.get(AMOUNT_OF.get(kind, "amount")) or 0)
    if kind == "charge" and not amount:
        return
    yield {
        "kind": kind,
        "stripe_id": str(thing["id"]),
        "status": str(thing.get("status")),
        "amount": amount,
        "currency": str(thing.get("currency") or ""),
        "about": id_of(thing.get("charge") or thing.get("invoice")),
        "occurred_at": moment(thing.get("created")),
    }


def intents_of(invoice: Thing) -> set[str]:
    """The payment intents by which an invoice is being paid, as far as it was read with its payments."""
    payments = [payment.get("payment") or {} for payment in _data(invoice.get("payments"))]
    return {intent for payment in payments if (intent := id_of(payment.get("payment_intent")))}


def moment(seconds: Any) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, int | float) else None


def id_of(thing: Any) -> str | None:
    """An id, whether Stripe sent the id or, because it was asked to expand, the object."""
    return thing.get("id") if isinstance(thing, dict) else thing


def digest(columns: Thing) -> str:
    """Equal for equal rows: what a sweep compares instead of thirty columns."""
    return hashlib.blake2b(orjson.dumps(columns, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def organization_in(thing: Thing) -> UUID | None:
    """The organization that an object proposes for itself; only a hint, because anybody may edit metadata."""
    try:
        return UUID(str((thing.get("metadata") or {}).get("organization_id")))
    except ValueError:
        return None


def _item(item: Thing) -> Thing:
    price = item.get("price") or {}
    recurring = price.get("recurring") or {}
    return {
        "id": item.get("id"),
        "price": price.get("id"),
        "product": id_of(price.get("product")),
        "lookup_key": price.get("lookup_key"),
        "unit_amount": price.get("unit_amount"),
        "usage_type": recurring.get("usage_type"),
        "interval": recurring.get("interval"),
        "interval_count": recurring.get("interval_count"),
        "quantity": item.get("quantity"),
        "period_start": item.get("current_period_start"),
        "period_end": item.get("current_period_end"),
    }


def _data(listed: Any) -> list[Thing]:
    return list((listed or {}).get("data") or [])
