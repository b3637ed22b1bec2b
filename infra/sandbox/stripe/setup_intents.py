"""Cards saved for later, by Checkout and the portal (docs.stripe.com/api/setup_intents)."""

from __future__ import annotations

from infra.sandbox.stripe.changes import changing, create
from infra.sandbox.stripe.resources import collection
from infra.sandbox.stripe.shapes import fresh
from infra.sandbox.stripe.store import Account, Obj
from infra.sandbox.stripe.wire import Operation


def succeed(account: Account, customer_id: str | None, method: Obj) -> Obj:
    """One for a card that is there already."""
    intent = fresh(account, "setup_intent", "seti", customer=customer_id)
    intent["client_secret"] = f"{intent['id']}_secret_{account.new_id('s')}"
    create(account, intent, "setup_intent.created")
    with changing(account, intent, "setup_intent.succeeded"):
        intent.update(status="succeeded", payment_method=method["id"])
    return intent


OPERATIONS: list[Operation] = [
    *collection("setup_intent", "/v1/setup_intents", "customer payment_method"),
]
