"""Disputes: a bank takes a payment back, and says who was right (docs.stripe.com/disputes/how-disputes-work).

No call of the API opens one; at Stripe a test card does, here `open_dispute` and `POST /sandbox/disputes`.
"""

from __future__ import annotations

from infra.sandbox.stripe.changes import changing, create
from infra.sandbox.stripe.clock import DAY, when_due
from infra.sandbox.stripe.events import emit
from infra.sandbox.stripe.params import boolean, merge_metadata
from infra.sandbox.stripe.resources import acted, collection
from infra.sandbox.stripe.shapes import fresh
from infra.sandbox.stripe.store import Account, Obj, StripeError
from infra.sandbox.stripe.wire import Operation

ANSWER_SECONDS = 7 * DAY
WON, LOST = "winning_evidence", "losing_evidence"


def open_dispute(account: Account, charge_id: str, reason: str = "fraudulent") -> Obj:
    """The amount is taken from us at once. Raises StripeError for a charge that was not paid or is disputed."""
    charge = account.store.get("charge", charge_id, "charge")
    if not charge["paid"] or charge["disputed"]:
        raise StripeError("Only a paid charge can be disputed, and only once.", param="charge")
    with changing(account, charge, "charge.updated"):
        charge["disputed"] = True
    due_by = account.now() + ANSWER_SECONDS
    dispute = fresh(
        account,
        "dispute",
        "du",
        amount=charge["amount"],
        charge=charge_id,
        currency=charge["currency"],
        payment_intent=charge["payment_intent"],
        reason=reason,
    )
    dispute["evidence_details"]["due_by"] = due_by
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


@when_due("dispute_due")
def _due(account: Account, dispute_id: str) -> None:
    dispute = account.store.find(dispute_id)
    if dispute and dispute["status"] == "needs_response":
        decide(account, dispute_id, won=False)


def _give_in(account: Account, dispute: Obj) -> None:
    decide(account, dispute["id"], won=False)


OPERATIONS: list[Operation] = [
    *collection("dispute", "/v1/disputes", "charge payment_intent"),
    ("POST", "/v1/disputes/{object_id}", update),
    acted("dispute", "/v1/disputes", "close", _give_in),
]
