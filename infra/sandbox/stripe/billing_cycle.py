"""What time and payments do to a subscription: renewal, end of trial, dunning, end.

docs.stripe.com/billing/subscriptions/overview#subscription-lifecycle and /billing/revenue-recovery/smart-retries
"""

from __future__ import annotations

from infra.sandbox.stripe import invoices, lines, payment_methods
from infra.sandbox.stripe import items as subscription_items
from infra.sandbox.stripe.changes import changing
from infra.sandbox.stripe.clock import DAY, HOUR, when_due
from infra.sandbox.stripe.events import emit
from infra.sandbox.stripe.invoice_shape import shape
from infra.sandbox.stripe.pending import apply_pending
from infra.sandbox.stripe.periods import period_end
from infra.sandbox.stripe.store import Account, Obj
from infra.sandbox.stripe.subscription_shape import ENDED
from infra.sandbox.stripe.subscription_shape import period_end as current_end

FIRST_PAYMENT_SECONDS = 23 * HOUR
TRIAL_NOTICE = 3 * DAY
UPCOMING_NOTICE = 7 * DAY


def schedule(account: Account, subscription: Obj, *, is_new_trial: bool = False) -> None:
    """Look again at each moment that may matter; whoever looks checks whether it still does.

    The end of a trial is announced once for each end: at once, when less than the notice is left.
    """
    if subscription["status"] in ENDED:
        return
    end, subscription_id, now = current_end(subscription), subscription["id"], account.now()
    account.clock.at(end, "period_over", subscription_id)
    if subscription["cancel_at"]:
        account.clock.at(subscription["cancel_at"], "period_over", subscription_id)
    if pause := subscription["pause_collection"]:
        account.clock.at(pause["resumes_at"] or end, "collection_resumes", subscription_id)
    if is_new_trial and subscription["trial_end"]:
        account.clock.at(max(now, subscription["trial_end"] - TRIAL_NOTICE), "trial_will_end", subscription_id)
    if subscription["status"] != "trialing" and end - UPCOMING_NOTICE > now:
        account.clock.at(end - UPCOMING_NOTICE, "renewal_upcoming", subscription_id)
    if subscription["status"] == "incomplete":
        account.clock.at(subscription["created"] + FIRST_PAYMENT_SECONDS, "first_payment_overdue", subscription_id)


def end(account: Account, subscription: Obj, reason: str = "cancellation_requested") -> None:
    """Over for good; open invoices stay to be paid, drafts are no longer worked on."""
    now = account.now()
    for invoice in account.store.of("invoice", customer=subscription["customer"], status="draft"):
        if invoices.subscription_id(invoice) == subscription["id"]:
            invoice.update(auto_advance=False, automatically_finalizes_at=None, next_payment_attempt=None)
    with changing(account, subscription, "customer.subscription.deleted"):
        subscription.update(status="canceled", ended_at=now, canceled_at=subscription["canceled_at"] or now)
        subscription.update(pending_update=None)
        subscription["cancellation_details"]["reason"] = subscription["cancellation_details"]["reason"] or reason


def renew(account: Account, subscription: Obj) -> Obj:
    """The next period begins at once; its invoice stays a draft for an hour. Answers the invoice."""
    items = subscription["items"]["data"]
    start = current_end(subscription)
    old_start = items[0]["current_period_start"]
    recurring, anchor = items[0]["price"]["recurring"], subscription["billing_cycle_anchor"]
    customer_id = subscription["customer"]
    with changing(account, subscription, "customer.subscription.updated"):
        subscription_items.set_period(items, start, period_end(start, recurring, anchor))
        if subscription["status"] == "trialing":
            subscription["status"] = "active"
        parts = lines.pending(account, customer_id, subscription["id"])
        these = lines.period_lines(account, subscription)
        invoice = invoices.draft(
            account,
            customer_id,
            "subscription_cycle",
            these,
            parts,
            subscription=subscription,
            period=(old_start, start),
        )
        subscription["latest_invoice"] = invoice["id"]
    if subscription["status"] == "unpaid":
        invoice["auto_advance"] = False
    else:
        invoices.schedule_finalizing(account, invoice)
    emit(account, "invoice.created", invoice)
    schedule(account, subscription)
    return invoice


@when_due("period_over")
def _period_over(account: Account, subscription_id: str) -> None:
    subscription = account.store.find(subscription_id)
    if not subscription or subscription["status"] in (*ENDED, "incomplete", "paused"):
        return
    now = account.now()
    if subscription["cancel_at"] and subscription["cancel_at"] <= now:
        end(account, subscription)
    elif current_end(subscription) <= now:
        missing = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
        if (
            subscription["status"] == "trialing"
            and missing != "create_invoice"
            and not payment_methods.usual(account, subscription["customer"], subscription)
        ):
            _trial_without_card(account, subscription, missing)
        else:
            renew(account, subscription)


@when_due("invoice_draft_over")
def _draft_over(account: Account, invoice_id: str) -> None:
    """After its hour: opened and charged, or what a pause of collection says."""
    invoice = account.store.find(invoice_id)
    if not invoice or invoice["status"] != "draft" or not invoice["auto_advance"]:
        return
    subscription = account.store.find(invoices.subscription_id(invoice))
    pause = subscription["pause_collection"] if subscription else None
    if pause and pause["behavior"] == "keep_as_draft":
        return
    invoices.finalize(account, invoice)
    if invoice["status"] == "paid":
        return
    if pause and pause["behavior"] == "void":
        invoices.void(account, invoice)
    elif pause:
        invoices.mark_uncollectible(account, invoice)
    elif invoice["collection_method"] == "charge_automatically":
        invoices.collect(account, invoice)


@when_due("trial_will_end")
def _trial_will_end(account: Account, subscription_id: str) -> None:
    subscription = account.store.find(subscription_id)
    is_trial = subscription and subscription["status"] == "trialing"
    if subscription and is_trial and subscription["trial_end"] - account.now() <= TRIAL_NOTICE:
        emit(account, "customer.subscription.trial_will_end", subscription)


@when_due("renewal_upcoming")
def _upcoming(account: Account, subscription_id: str) -> None:
    """A preview of the invoice to come; it has no id, because it is not there yet."""
    subscription = account.store.find(subscription_id)
    if not subscription or subscription["status"] not in ("active", "past_due") or subscription["cancel_at"]:
        return
    if current_end(subscription) - account.now() == UPCOMING_NOTICE:
        these = lines.period_lines(account, subscription)
        customer = account.store.get("customer", subscription["customer"])
        preview = shape(account, customer, "upcoming", these, subscription)
        del preview["id"]
        emit(account, "invoice.upcoming", preview)


@when_due("first_payment_overdue")
def _first_payment_overdue(account: Account, subscription_id: str) -> None:
    subscription = account.store.find(subscription_id)
    if not subscription or subscription["status"] != "incomplete":
        return
    with changing(account, subscription, "customer.subscription.updated"):
        subscription.update(status="incomplete_expired", ended_at=account.now())
    invoice = account.store.get("invoice", subscription["latest_invoice"])
    if invoice["status"] == "open":
        invoices.void(account, invoice)


@when_due("collection_resumes")
def _resume_collection(account: Account, subscription_id: str) -> None:
    subscription = account.store.find(subscription_id)
    pause = subscription["pause_collection"] if subscription else None
    if subscription and pause and pause["resumes_at"] and pause["resumes_at"] <= account.now():
        with changing(account, subscription, "customer.subscription.updated"):
            subscription["pause_collection"] = None


def _trial_without_card(account: Account, subscription: Obj, missing: str) -> None:
    if missing == "cancel":
        end(account, subscription)
        return
    with changing(account, subscription, "customer.subscription.updated", "customer.subscription.paused"):
        subscription["status"] = "paused"


def on_invoice(account: Account, invoice: Obj, outcome: invoices.Outcome) -> None:
    """What an invoice's fate means for its subscription."""
    subscription = account.store.find(invoices.subscription_id(invoice))
    if not subscription or subscription["status"] in ENDED:
        return
    is_latest = subscription["latest_invoice"] == invoice["id"]
    if outcome == "paid" and subscription["pending_update"] and is_latest:
        apply_pending(account, subscription)
    elif outcome == "voided" and subscription["pending_update"] and is_latest:
        with changing(account, subscription, "customer.subscription.updated"):
            subscription["pending_update"] = None
    elif outcome in ("paid", "voided"):
        _recovered(account, subscription, invoice, is_paid=outcome == "paid")
    elif invoice["auto_advance"]:
        _failed(account, subscription, invoice, is_over=outcome == "exhausted")


def _recovered(account: Account, subscription: Obj, invoice: Obj, *, is_paid: bool) -> None:
    is_first = subscription["status"] == "incomplete" and is_paid
    owes = any(_is_owed(one, subscription) for one in account.store.of("invoice", customer=subscription["customer"]))
    if is_first or (subscription["status"] in ("past_due", "unpaid") and not owes):
        with changing(account, subscription, "customer.subscription.updated"):
            subscription["status"] = "active"
        _set_delinquent(account, subscription["customer"], is_delinquent=False)


def _failed(account: Account, subscription: Obj, invoice: Obj, *, is_over: bool) -> None:
    """Past due while it is tried again; then what the account's setting says."""
    final = account.knobs.end_of_dunning if is_over else "past_due"
    if subscription["status"] not in ("active", "past_due"):
        return
    _set_delinquent(account, subscription["customer"], is_delinquent=True)
    if final == "cancel":
        end(account, subscription, "payment_failed")
        invoices.mark_uncollectible(account, invoice)
        return
    with changing(account, subscription, "customer.subscription.updated"):
        subscription["status"] = final


def _is_owed(invoice: Obj, subscription: Obj) -> bool:
    is_open = invoice["status"] == "open" and invoice["auto_advance"]
    return bool(is_open and invoices.subscription_id(invoice) == subscription["id"])


def _set_delinquent(account: Account, customer_id: str, *, is_delinquent: bool) -> None:
    customer = account.store.get("customer", customer_id)
    with changing(account, customer, "customer.updated"):
        customer["delinquent"] = is_delinquent


invoices.LISTENERS.append(on_invoice)
