"""Subscriptions: made, changed, cancelled (docs.stripe.com/billing/subscriptions/overview).

`create`, `update` and `cancel` are what the API and the pages share.
"""

from __future__ import annotations

from infra.sandbox.stripe import billing_cycle, invoices, lines, payment_methods, payments
from infra.sandbox.stripe import items as subscription_items
from infra.sandbox.stripe.change import Change, plan_change
from infra.sandbox.stripe.changes import changing, settled
from infra.sandbox.stripe.clock import DAY
from infra.sandbox.stripe.events import emit
from infra.sandbox.stripe.params import boolean, integer, one_of, required, take
from infra.sandbox.stripe.pending import drop, set_pending
from infra.sandbox.stripe.periods import period_end
from infra.sandbox.stripe.store import Account, Obj, StripeError, missing
from infra.sandbox.stripe.subscription_shape import ENDED, fill, set_cancellation, shape

BEHAVIORS = ("allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete")
# What may be changed together with payment_behavior=pending_if_incomplete.
PENDING_PARAMS = {"items", "metadata", "trial_end", "proration_behavior", "proration_date", "payment_behavior"} | {
    "billing_cycle_anchor",
    "off_session",
}


def create(account: Account, params: Obj) -> Obj:
    """Incomplete until the first invoice is paid, which is tried at once; a trial starts without."""
    required(params, "customer", "items")
    customer = account.store.get("customer", params["customer"], "customer")
    behavior = one_of(params, "payment_behavior", BEHAVIORS[:3], BEHAVIORS[0])
    subscription = _new(account, customer, params)
    is_free = not sum(line["amount"] for line in lines.period_lines(account, subscription))
    charges = subscription["collection_method"] == "charge_automatically" and behavior != "default_incomplete"
    if charges and not is_free:
        _refuse_certain_failure(account, subscription, behavior)
    account.store.add(subscription)
    invoice = _invoice(account, subscription, "subscription_create", lines.period_lines(account, subscription), [])
    if subscription["status"] == "incomplete" and (is_free or subscription["collection_method"] == "send_invoice"):
        subscription["status"] = "active"
    subscription["latest_invoice"] = invoice["id"]
    customer["currency"] = subscription["currency"]
    emit(account, "customer.subscription.created", subscription)
    emit(account, "invoice.created", invoice)
    settled(account, subscription)
    billing_cycle.schedule(account, subscription, is_new_trial=True)
    invoices.finalize(account, invoice)
    if charges:
        invoices.collect(account, invoice)
    return subscription


def update(account: Account, object_id: str, params: Obj) -> Obj:
    """One event tells of the whole change; what it costs is invoiced now or with the next cycle."""
    subscription = account.store.get("subscription", object_id)
    if subscription["status"] in ENDED and set(params) - {"metadata", "cancellation_details"}:
        text = "A canceled subscription can only update its cancellation_details and metadata."
        raise StripeError(text, code="resource_missing", status=404, param="id")
    behavior = one_of(params, "payment_behavior", BEHAVIORS, BEHAVIORS[0])
    change = plan_change(account, subscription, params)
    if behavior == "pending_if_incomplete" and (wrong := set(params) - PENDING_PARAMS):
        text = f"When payment_behavior is pending_if_incomplete, these cannot be updated: {', '.join(sorted(wrong))}."
        raise StripeError(text, param=min(wrong))
    if change and change.invoices_now and change.total > 0 and behavior == "pending_if_incomplete":
        return _update_when_paid(account, subscription, params, change)
    if change and change.invoices_now and change.total > 0:
        _refuse_certain_failure(account, subscription, behavior, is_first=False)
    if change and subscription["pending_update"]:
        drop(account, subscription)
    invoice, trial_end = None, subscription["trial_end"]
    with changing(account, subscription, "customer.subscription.updated"):
        _fill(account, subscription, params)
        if change:
            apply(account, subscription, change)
            if change.invoices_now and (change.parts or change.lines):
                invoice = _invoice(account, subscription, "subscription_update", change.lines, change.parts)
                subscription["latest_invoice"] = invoice["id"]
    if change:
        lines.keep(account, change.parts)
    billing_cycle.schedule(account, subscription, is_new_trial=trial_end != subscription["trial_end"])
    if invoice:
        emit(account, "invoice.created", invoice)
        invoices.finalize(account, invoice)
        if behavior != "default_incomplete":
            invoices.collect(account, invoice)
    return subscription


def cancel(account: Account, object_id: str, params: Obj | None = None) -> Obj:
    """At once; `prorate` gives the unused rest back, `invoice_now` settles that at once."""
    given = params or {}
    subscription = account.store.get("subscription", object_id)
    if subscription["status"] in ENDED:
        raise missing("subscription", object_id)
    take(subscription["cancellation_details"], given.get("cancellation_details") or {}, "comment", "feedback")
    parts: list[Obj] = []
    if boolean(given, "prorate"):
        parts = lines.prorations(account, subscription, [], account.now())
    billing_cycle.end(account, subscription)
    lines.keep(account, parts)
    if boolean(given, "invoice_now") and (waiting := lines.pending(account, subscription["customer"], object_id)):
        invoice = _invoice(account, subscription, "subscription_update", [], waiting)
        subscription["latest_invoice"] = invoice["id"]
        emit(account, "invoice.created", invoice)
        invoices.settle(account, invoice)
    return subscription


def apply(account: Account, subscription: Obj, change: Change) -> None:
    """Put the new items in place; a cycle that starts over moves its anchor and a planned end."""
    subscription["items"].update(data=change.items, total_count=len(change.items))
    if change.period:
        start, end = change.period
        subscription["billing_cycle_anchor"] = start
        if subscription["status"] == "trialing":
            subscription.update(status="active", trial_end=start)
        if subscription["cancel_at_period_end"]:
            subscription["cancel_at"] = end


def _new(account: Account, customer: Obj, params: Obj) -> Obj:
    subscription_id, now = account.new_id("sub"), account.now()
    items = [subscription_items.new_item(account, subscription_id, one, (now, now)) for one in params["items"]]
    subscription = shape(account, customer["id"], subscription_id, items, params)
    trial_end = _trial_end(account, params)
    end = trial_end or period_end(now, items[0]["price"]["recurring"], now)
    subscription_items.set_period(items, now, end)
    if trial_end:
        subscription.update(status="trialing", trial_start=now, trial_end=trial_end, billing_cycle_anchor=trial_end)
    _fill(account, subscription, params)
    return subscription


def _fill(account: Account, subscription: Obj, params: Obj) -> None:
    fill(account, subscription, params)
    if params.get("default_payment_method"):
        method = payment_methods.attached(
            account, params["default_payment_method"], subscription["customer"], "default_payment_method"
        )
        subscription["default_payment_method"] = method["id"]
    elif "default_payment_method" in params:
        subscription["default_payment_method"] = None
    if subscription["id"] in account.store.kind_of and (moment := _trial_end(account, params)):
        subscription.update(
            status="trialing", trial_end=moment, trial_start=subscription["trial_start"] or account.now()
        )
        subscription_items.set_period(
            subscription["items"]["data"], subscription["items"]["data"][0]["current_period_start"], moment
        )
    set_cancellation(account, subscription, params)


def _update_when_paid(account: Account, subscription: Obj, params: Obj, change: Change) -> Obj:
    """Nothing changes until the difference is paid; until then the change waits, for at most 23 hours."""
    if subscription["pending_update"]:
        drop(account, subscription)
    invoice = _invoice(account, subscription, "subscription_update", change.lines, change.parts)
    # Not tried again by itself: either somebody pays in time, or the change is off.
    invoice["auto_advance"] = False
    lines.keep(account, change.parts)
    emit(account, "invoice.created", invoice)
    invoices.finalize(account, invoice)
    if invoices.collect(account, invoice) == "succeeded":
        with changing(account, subscription, "customer.subscription.updated"):
            _fill(account, subscription, params)
            apply(account, subscription, change)
            subscription["latest_invoice"] = invoice["id"]
        billing_cycle.schedule(account, subscription)
    else:
        set_pending(account, subscription, change, params, invoice)
    return subscription


def _invoice(account: Account, subscription: Obj, reason: str, these: list[Obj], parts: list[Obj]) -> Obj:
    now = account.now()
    customer = subscription["customer"]
    return invoices.draft(account, customer, reason, these, parts, subscription=subscription, period=(now, now))


def _refuse_certain_failure(account: Account, subscription: Obj, behavior: str, *, is_first: bool = True) -> None:
    """Raises the 400 of a customer without a card, or the 402 that error_if_incomplete asks for."""
    method_id = payment_methods.usual(account, subscription["customer"], subscription)
    if not method_id:
        if is_first or behavior == "error_if_incomplete":
            text = "This customer has no attached payment source or default payment method."
            raise StripeError(text, code="resource_missing")
        return
    method = account.store.get("payment_method", method_id)
    if behavior == "error_if_incomplete" and payment_methods.outcome(method) != "ok":
        raise StripeError(payments.DECLINED, status=402, kind="card_error", code="card_declined")


def _trial_end(account: Account, params: Obj) -> int | None:
    if days := integer(params, "trial_period_days"):
        return account.now() + days * DAY
    return None if params.get("trial_end") in (None, "", "now") else integer(params, "trial_end")
