"""Disputes: a bank takes a payment back, and says who was right (docs.stripe.com/disputes/how-disputes-work).

No call of the API opens one; at Stripe a test card does, here `open_dispute` and `POST /sandbox/disputes`.
"""

from __future__ import annotations

from infra.sandbox.stripe.changes import changing, create
from infra.sandbox.stripe.clock import DAY, when_due
from infra.sandbox.stripe.events import emit
from infra.sandbox.stripe.objects import nulls
from infra.sandbox.stripe.params import boolean, merge_metadata
from infra.sandbox.stripe.store import Account, Obj, StripeError, page_of
from infra.sandbox.stripe.wire import Operation

ANSWER_SECONDS = 7 * DAY
WON, LOST = "winning_evidence", "losing_evidence"
TEXTS = (
    "access_activity_log billing_address cancellation_policy_disclosure cancellation_rebuttal customer_email_address"
)
TEXTS += " customer_name customer_purchase_ip duplicate_charge_explanation duplicate_charge_id product_description"
TEXTS += " refund_policy_disclosure refund_refusal_explanation service_date shipping_address shipping_carrier"
TEXTS += " shipping_date shipping_tracking_number uncategorized_text"
FILES = "cancellation_policy customer_communication customer_signature duplicate_charge_documentation receipt"
FILES += " refund_policy service_documentation shipping_documentation uncategorized_file"


def open_dispute(account: Account, charge_id: str, reason: str = "fraudulent") -> Obj:
    """The amount is taken from us at once. Raises StripeError for a charge that was not paid or is disputed."""
    charge = account.store.get("charge", charge_id, "charge")
    if not charge["paid"] or charge["disputed"]:
        raise StripeError("Only a paid charge can be disputed, and only once.", param="charge")
    with changing(account, charge, "charge.updated"):
        charge["disputed"] = True
    due_by = account.now() + ANSWER_SECONDS
    details: Obj = {"due_by": due_by, "has_evidence": False, "past_due": False, "submission_count": 0}
    details |= {"submission_method": "not_submitted"}
    dispute: Obj = {
        "id": account.new_id("du"),
        "object": "dispute",
        "amount": charge["amount"],
        "balance_transactions": [],
        "charge": charge_id,
        "created": account.now(),
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": nulls(f"{TEXTS} {FILES}") | {"enhanced_evidence": {}},
        "evidence_details": details | {"enhanced_eligibility": {}},
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {"brand": "visa", "case_type": "chargeback", "network_reason_code": "10.4", "network": "visa"},
            "type": "card",
        },
        "reason": reason,
        "status": "needs_response",
    }
    create(account, dispute, "charge.dispute.created")
    emit(account, "charge.dispute.funds_withdrawn", dispute)
    account.clock.at(due_by, "dispute_due", dispute["id"])
    return dispute


def update(account: Account, params: Obj, object_id: str) -> Obj:
    """Evidence; the texts `winning_evidence` and `losing_evidence` decide the case at once, as in test mode."""
    dispute = account.store.get("dispute", object_id)
    if dispute["status"] not in ("needs_response", "under_review"):
        raise StripeError("This dispute is already closed.")
    evidence = params.get("evidence") or {}
    with changing(account, dispute, "charge.dispute.updated"):
        merge_metadata(dispute, params)
        dispute["evidence"] |= evidence
        if evidence and boolean(params, "submit", default=True):
            dispute["status"] = "under_review"
            dispute["evidence_details"].update(has_evidence=True, submission_count=1, submission_method="manual")
    if evidence.get("uncategorized_text") in (WON, LOST):
        decide(account, object_id, won=evidence["uncategorized_text"] == WON)
    return dispute


def decide(account: Account, dispute_id: str, *, won: bool) -> Obj:
    """The bank's last word."""
    dispute = account.store.get("dispute", dispute_id)
    if dispute["status"] in ("won", "lost"):
        raise StripeError("This dispute is already closed.")
    with changing(account, dispute, "charge.dispute.closed"):
        dispute["status"] = "won" if won else "lost"
    if won:
        emit(account, "charge.dispute.funds_reinstated", dispute)
    return dispute


def close(account: Account, params: Obj, object_id: str) -> Obj:
    """Giving in is losing."""
    return decide(account, object_id, won=False)


@when_due("dispute_due")
def _due(account: Account, dispute_id: str) -> None:
    dispute = account.store.find(dispute_id)
    if dispute and dispute["status"] == "needs_response":
        decide(account, dispute_id, won=False)


def list_(account: Account, params: Obj) -> Obj:
    wanted = {name: params[name] for name in ("charge", "payment_intent") if params.get(name)}
    return page_of(account.store.of("dispute", **wanted), params, "/v1/disputes")


def retrieve(account: Account, params: Obj, object_id: str) -> Obj:
    return account.store.get("dispute", object_id)


OPERATIONS: list[Operation] = [
    ("GET", "/v1/disputes", list_),
    ("GET", "/v1/disputes/{object_id}", retrieve),
    ("POST", "/v1/disputes/{object_id}", update),
    ("POST", "/v1/disputes/{object_id}/close", close),
]
