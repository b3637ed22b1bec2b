"""Reading a customer's state from Stripe: with no transaction open and no connection held, however long it takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from service.core import clock
from service.integrations.stripe.client import StripeApi
from service.integrations.stripe.errors import StripeAbsent, StripeMisconfigured
from service.integrations.stripe.pace import Urgency
from service.integrations.stripe.readings import intents_of

MOST = 1_000
"""Of each kind for one customer: more is somebody else's script, and must not fill our memory."""
INVOICE_TYPES = ("invoice", "payment_intent")
MONEY_TYPES = ("charge", "refund", "dispute", "credit_note", "payment_intent")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What Stripe said, in its own words. A part that was not asked for is None: it says nothing about its rows."""

    fetched_at: datetime
    subscriptions: list[dict[str, Any]] = field(default_factory=list)
    invoices: list[dict[str, Any]] | None = None
    waiting: frozenset[str] = frozenset()
    """Payment intents that wait for the customer to confirm (3-D Secure)."""
    money: list[tuple[str, dict[str, Any]]] | None = None
    """(kind, object) for the ledger."""
    deleted: bool = False
    """The customer was deleted at Stripe; its subscriptions ended with it."""


async def fetch_snapshot(
    api: StripeApi, customer: str, touched: Iterable[str] | None, urgency: Urgency = Urgency.WEBHOOK
) -> Snapshot:
    """Subscriptions always; the rest when `touched` (object types; None: all of them) says that it may have changed."""
    types = None if touched is None else frozenset(touched)
    mine = {"customer": customer}
    fetched_at = clock.now()
    try:
        subscriptions = await _all(api, "/v1/subscriptions", {**mine, "status": "all"}, urgency)
    except StripeAbsent:
        return Snapshot(fetched_at, deleted=await _is_deleted(api, customer, urgency))
    deleted = (types is None or "customer" in types) and await _is_deleted(api, customer, urgency)
    invoices = money = None
    waiting: frozenset[str] = frozenset()
    # Whoever owes is shown what, and where to pay it, whichever message came first.
    owes = any(one.get("status") in ("past_due", "unpaid") for one in subscriptions)
    if types is None or owes or not types.isdisjoint(INVOICE_TYPES):
        invoices = await _all(api, "/v1/invoices", {**mine, "expand": ["data.payments"]}, urgency)
        if any(invoice.get("status") == "open" and intents_of(invoice) for invoice in invoices):
            intents = await _all(api, "/v1/payment_intents", mine, urgency)
            waiting = frozenset(str(one["id"]) for one in intents if one.get("status") == "requires_action")
    if types is None or not types.isdisjoint(MONEY_TYPES):
        money = await _money(api, mine, types, urgency)
    return Snapshot(fetched_at, subscriptions, invoices, waiting, money, deleted)


async def _money(
    api: StripeApi, mine: dict[str, Any], types: frozenset[str] | None, urgency: Urgency
) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for charge in await _all(api, "/v1/charges", {**mine, "expand": ["data.refunds"]}, urgency):
        found.append(("charge", charge))
        refunds = charge.get("refunds") or {}
        shown = refunds.get("data") or []
        if refunds.get("has_more"):  # a list inside an object ends after ten
            shown = await _all(api, "/v1/refunds", {"charge": charge["id"]}, urgency)
        found += [("refund", refund) for refund in shown]
        if charge.get("disputed"):
            disputes = await _all(api, "/v1/disputes", {"charge": charge["id"]}, urgency)
            found += [("dispute", dispute) for dispute in disputes]
    if types is None or "credit_note" in types:
        found += [("credit_note", note) for note in await _all(api, "/v1/credit_notes", mine, urgency)]
    return found


async def _is_deleted(api: StripeApi, customer: str, urgency: Urgency) -> bool:
    """Stripe remembers whom it deleted. Whom it never heard of belongs to another account than our key does: nobody's
    plan ends for that."""
    try:
        return bool((await api.patiently("GET", f"/v1/customers/{customer}", urgency=urgency)).get("deleted"))
    except StripeAbsent as error:
        raise StripeMisconfigured(f"Stripe never heard of {customer}: is the key of another account?") from error


async def _all(api: StripeApi, path: str, params: dict[str, Any], urgency: Urgency) -> list[dict[str, Any]]:
    return [one async for one in api.every(path, params, urgency=urgency, most=MOST)]
