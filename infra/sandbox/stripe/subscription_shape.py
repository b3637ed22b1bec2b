"""What a subscription looks like, and the fields of it that a caller sets freely."""

from __future__ import annotations

from infra.sandbox.stripe.objects import listing, nulls
from infra.sandbox.stripe.params import boolean, integer, merge_metadata, one_of, take
from infra.sandbox.stripe.shapes import fresh
from infra.sandbox.stripe.store import Account, Obj, StripeError

ENDED = ("canceled", "incomplete_expired")
MISSING_CARD = ("create_invoice", "pause", "cancel")


def shape(account: Account, customer_id: str, subscription_id: str, items: list[Obj], params: Obj) -> Obj:
    """Incomplete until something says otherwise."""
    now = account.now()
    subscription = fresh(
        account,
        "subscription",
        "sub",
        id=subscription_id,
        billing_cycle_anchor=now,
        currency=items[0]["price"]["currency"],
        customer=customer_id,
        items=listing(items, f"/v1/subscription_items?subscription={subscription_id}"),
        start_date=now,
    )
    if one_of(params.get("billing_mode") or {}, "type", ("flexible", "classic"), "flexible") == "classic":
        subscription["billing_mode"] = {"type": "classic", "flexible": None}
    return subscription


def fill(account: Account, subscription: Obj, params: Obj) -> None:
    """Fields without consequences for money; cancellation and trial are elsewhere."""
    take(subscription, params, "description")
    merge_metadata(subscription, params)
    if "collection_method" in params:
        methods = ("charge_automatically", "send_invoice")
        subscription["collection_method"] = one_of(params, "collection_method", methods, methods[0])
    subscription["days_until_due"] = integer(params, "days_until_due", subscription["days_until_due"])
    if "pause_collection" in params:
        subscription["pause_collection"] = _pause(params["pause_collection"])
    if behavior := (params.get("trial_settings") or {}).get("end_behavior"):
        missing = one_of(behavior, "missing_payment_method", MISSING_CARD, "create_invoice")
        subscription["trial_settings"] = {"end_behavior": {"missing_payment_method": missing}}
    if saved := (params.get("payment_settings") or {}).get("save_default_payment_method"):
        subscription["payment_settings"]["save_default_payment_method"] = saved
    details = params.get("cancellation_details") or {}
    take(subscription["cancellation_details"], details, "comment", "feedback")


def set_cancellation(account: Account, subscription: Obj, params: Obj) -> None:
    """`cancel_at` takes a moment, `min_period_end` or nothing; an empty one clears every trace of a cancellation.

    `cancel_at_period_end=false` takes back only what that flag has set: a `cancel_at` of the portal, which leaves the
    flag alone, stays.
    """
    if "cancel_at" in params and "cancel_at_period_end" in params and params["cancel_at"] != "":
        raise StripeError("You may only specify one of these parameters: cancel_at, cancel_at_period_end.")
    end = period_end(subscription)
    if params.get("cancel_at"):
        given = str(params["cancel_at"])
        moment = end if given in ("min_period_end", "max_period_end") else integer(params, "cancel_at") or 0
        if moment <= account.now():
            raise StripeError("cancel_at must be in the future.", param="cancel_at")
        _cancel_at(account, subscription, moment, is_flag=False)
    elif "cancel_at" in params:
        _keep(subscription)
    if boolean(params, "cancel_at_period_end"):
        _cancel_at(account, subscription, end, is_flag=True)
    elif "cancel_at_period_end" in params and subscription["cancel_at_period_end"]:
        _keep(subscription)


def period_end(subscription: Obj) -> int:
    """The end of the earliest current period."""
    return min(int(item["current_period_end"]) for item in subscription["items"]["data"])


def _cancel_at(account: Account, subscription: Obj, moment: int, *, is_flag: bool) -> None:
    subscription.update(cancel_at=moment, cancel_at_period_end=is_flag, canceled_at=account.now())
    subscription["cancellation_details"]["reason"] = "cancellation_requested"


def _keep(subscription: Obj) -> None:
    subscription.update(cancel_at=None, cancel_at_period_end=False, canceled_at=None)
    subscription["cancellation_details"] = nulls("comment feedback reason")


def _pause(given: Obj | str) -> Obj | None:
    if not isinstance(given, dict):
        return None
    behavior = one_of(given, "behavior", ("keep_as_draft", "mark_uncollectible", "void"), "void")
    return {"behavior": behavior, "resumes_at": integer(given, "resumes_at")}
