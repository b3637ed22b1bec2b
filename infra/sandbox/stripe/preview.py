"""The invoice that would come, without making it: `create_preview` shows what a change costs before it is made."""

from __future__ import annotations

from copy import copy

from infra.sandbox.stripe import items as subscription_items
from infra.sandbox.stripe import lines
from infra.sandbox.stripe.change import plan_change
from infra.sandbox.stripe.invoice_shape import shape
from infra.sandbox.stripe.objects import nulls
from infra.sandbox.stripe.params import required
from infra.sandbox.stripe.periods import period_end
from infra.sandbox.stripe.store import Account, Obj, StripeError
from infra.sandbox.stripe.subscription_shape import ENDED
from infra.sandbox.stripe.subscription_shape import period_end as current_end
from infra.sandbox.stripe.subscription_shape import shape as subscription_shape


def preview(account: Account, params: Obj) -> Obj:
    """Of a subscription as it is, of a change to it, or of one that does not exist yet. Keeps nothing."""
    details = params.get("subscription_details") or {}
    if not params.get("subscription"):
        return _of_new(account, params, details)
    subscription = account.store.get("subscription", params["subscription"], "subscription")
    customer = account.store.get("customer", subscription["customer"])
    change = plan_change(account, subscription, details)
    parts = lines.pending(account, customer["id"], subscription["id"])
    if change:
        parts = change.parts if change.invoices_now else [*parts, *change.parts]
    shown = [lines.line_of(account, part) for part in parts]
    if change and change.invoices_now:
        shown += change.lines
    elif subscription["status"] in ENDED or subscription["cancel_at"]:
        text = f"No upcoming invoices for customer: {customer['id']}"
        raise StripeError(text, status=404, code="invoice_upcoming_none")
    else:
        shown += _next_period(account, subscription, change.items if change else subscription["items"]["data"])
    reason = "subscription_update" if change and change.invoices_now else "upcoming"
    return _shown(shape(account, customer, reason, shown, subscription))


def _of_new(account: Account, params: Obj, details: Obj) -> Obj:
    required(params, "customer")
    required(details, "items")
    customer = account.store.get("customer", params["customer"], "customer")
    now = account.now()
    items = [subscription_items.new_item(account, "sub_preview", one, (now, now)) for one in details["items"]]
    subscription_items.set_period(items, now, period_end(now, items[0]["price"]["recurring"], now))
    subscription = subscription_shape(account, customer["id"], "sub_preview", items, {})
    invoice = shape(account, customer, "upcoming", lines.period_lines(account, subscription), None)
    return _shown(invoice)


def _next_period(account: Account, subscription: Obj, items: list[Obj]) -> list[Obj]:
    following = [copy(item) for item in items]
    start = current_end(subscription)
    end = period_end(start, items[0]["price"]["recurring"], subscription["billing_cycle_anchor"])
    subscription_items.set_period(following, start, end)
    return lines.full_periods(account, subscription, following)


def _shown(invoice: Obj) -> Obj:
    invoice["id"] = f"upcoming_{invoice['id']}"
    return invoice | nulls("auto_advance")
