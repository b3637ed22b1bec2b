"""Money that goes back: refunds, and credit notes that lower an invoice (docs.stripe.com/refunds)."""

from __future__ import annotations

from infra.sandbox.stripe.changes import changing, create
from infra.sandbox.stripe.expanding import HIDDEN
from infra.sandbox.stripe.objects import listing
from infra.sandbox.stripe.paging import page_of
from infra.sandbox.stripe.params import integer, merge_metadata
from infra.sandbox.stripe.resources import collection, fill_metadata, updated
from infra.sandbox.stripe.shapes import fresh
from infra.sandbox.stripe.store import Account, Obj, StripeError
from infra.sandbox.stripe.wire import Operation


def refund(
    account: Account, charge: Obj, amount: int | None = None, reason: str | None = None, given: Obj | None = None
) -> Obj:
    """All that is left, or part of it; `given` may bring metadata. Raises StripeError for more than there is."""
    left = charge["amount_captured"] - charge["amount_refunded"]
    wanted = left if amount is None else amount
    if not left:
        raise StripeError(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    if not 0 < wanted <= left:
        text = f"Refund amount ({wanted}) is greater than unrefunded amount on charge ({left})"
        raise StripeError(text, param="amount")
    obj = fresh(
        account,
        "refund",
        "re",
        amount=wanted,
        balance_transaction=account.new_id("txn"),
        charge=charge["id"],
        currency=charge["currency"],
        payment_intent=charge["payment_intent"],
        reason=reason or None,
    )
    merge_metadata(obj, given or {})
    create(account, obj, "refund.created")
    with changing(account, charge, "charge.refunded"):
        charge["amount_refunded"] += wanted
        charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
    with changing(account, obj, "refund.updated", "charge.refund.updated"):
        obj["destination_details"]["card"] |= {"reference_status": "available", "reference": account.new_id("arn")}
    return obj


def fail(account: Account, refund_id: str) -> Obj:
    """The bank gave it back: the charge counts it no more."""
    obj = account.store.get("refund", refund_id)
    charge = account.store.get("charge", obj["charge"])
    with changing(account, obj, "refund.updated", "refund.failed"):
        obj.update(
            status="failed", failure_reason="lost_or_stolen_card", failure_balance_transaction=account.new_id("txn")
        )
    with changing(account, charge, "charge.updated"):
        charge.update(amount_refunded=charge["amount_refunded"] - obj["amount"], refunded=False)
    return obj


def add(account: Account, params: Obj) -> Obj:
    """Of a charge, or of the charge of a payment intent."""
    charge_id = params.get("charge")
    if intent_id := params.get("payment_intent"):
        charge_id = account.store.get("payment_intent", intent_id, "payment_intent")["latest_charge"]
    charge = account.store.get("charge", charge_id, "charge")
    return refund(account, charge, integer(params, "amount"), params.get("reason"), params)


def _of_charge(account: Account, charge: Obj) -> Obj:
    """The ten newest, like every list inside an object."""
    url = f"/v1/charges/{charge['id']}/refunds"
    return listing([], url) | page_of(account.store.of("refund", charge=charge["id"]), {}, url)


HIDDEN["charge", "refunds"] = _of_charge
OPERATIONS: list[Operation] = [
    ("POST", "/v1/refunds", add),
    *collection("refund", "/v1/refunds", "charge payment_intent"),
    updated("refund", "/v1/refunds", "refund.updated", fill_metadata),
]
