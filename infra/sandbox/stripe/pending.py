"""A change that waits for its payment (docs.stripe.com/billing/subscriptions/pending-updates)."""

from __future__ import annotations

from infra.sandbox.stripe import invoices
from infra.sandbox.stripe.change import Change
from infra.sandbox.stripe.changes import changing
from infra.sandbox.stripe.clock import HOUR, when_due
from infra.sandbox.stripe.events import emit
from infra.sandbox.stripe.objects import nulls
from infra.sandbox.stripe.store import Account, Obj

PENDING_SECONDS = 23 * HOUR


def set_pending(account: Account, subscription: Obj, change: Change, params: Obj, invoice: Obj) -> None:
    """Keep the change beside the subscription."""
    expires_at = account.now() + PENDING_SECONDS
    with changing(account, subscription, "customer.subscription.updated"):
        subscription["latest_invoice"] = invoice["id"]
        subscription["pending_update"] = {
            "expires_at": expires_at,
            "metadata": params.get("metadata") or None,
            "subscription_items": change.items,
            **nulls("billing_cycle_anchor cancel_at_period_end discount discounts trial_end trial_from_plan"),
        }
        if change.period:
            subscription["pending_update"]["billing_cycle_anchor"] = change.period[0]
    account.clock.at(expires_at, "pending_update_over", subscription["id"])


def apply_pending(account: Account, subscription: Obj) -> None:
    """The money is there: now the change is made."""
    pending = subscription["pending_update"]
    items = pending["subscription_items"]
    before = {item["id"]: item for item in subscription["items"]["data"]}
    with changing(
        account, subscription, "customer.subscription.updated", "customer.subscription.pending_update_applied"
    ):
        for item in items:
            # The cycle may have closed meanwhile.
            if item["id"] in before and not pending["billing_cycle_anchor"]:
                current = before[item["id"]]
                item.update({name: current[name] for name in ("current_period_start", "current_period_end")})
        subscription["items"].update(data=items, total_count=len(items))
        subscription["billing_cycle_anchor"] = pending["billing_cycle_anchor"] or subscription["billing_cycle_anchor"]
        subscription["metadata"] = subscription["metadata"] | (pending["metadata"] or {})
        subscription["pending_update"] = None


def drop(account: Account, subscription: Obj) -> None:
    """The change is off, and nobody has to pay for it."""
    invoice = account.store.get("invoice", subscription["latest_invoice"])
    with changing(account, subscription, "customer.subscription.updated"):
        subscription["pending_update"] = None
    if invoice["status"] == "open":
        invoices.void(account, invoice)


@when_due("pending_update_over")
def _over(account: Account, subscription_id: str) -> None:
    subscription = account.store.find(subscription_id)
    if not subscription or (subscription["pending_update"] or {}).get("expires_at") != account.now():
        return
    drop(account, subscription)
    emit(account, "customer.subscription.pending_update_expired", subscription)
