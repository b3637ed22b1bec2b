"""The customer portal: its sessions, and what a person can do there (docs.stripe.com/customer-management)."""

from __future__ import annotations

from infra.sandbox.stripe import payment_methods, setup_intents, subscriptions
from infra.sandbox.stripe.changes import create
from infra.sandbox.stripe.objects import nulls
from infra.sandbox.stripe.paging import page_of
from infra.sandbox.stripe.params import required
from infra.sandbox.stripe.shapes import fresh
from infra.sandbox.stripe.store import Account, Obj
from infra.sandbox.stripe.subscription_shape import ENDED
from infra.sandbox.stripe.wire import Operation

FLOWS = ("subscription_cancel", "subscription_update", "subscription_update_confirm")


def open_session(account: Account, params: Obj) -> Obj:
    required(params, "customer")
    customer = account.store.get("customer", params["customer"], "customer")
    obj = fresh(
        account,
        "billing_portal.session",
        "bps",
        configuration=params.get("configuration") or _configuration(account)["id"],
        customer=customer["id"],
        flow=_flow(params["flow_data"]) if params.get("flow_data") else None,
        return_url=params.get("return_url"),
    )
    obj["url"] = f"{account.address}/portal/{obj['id']}"
    return create(account, obj, "billing_portal.session.created")


def cancel(account: Account, subscription_id: str) -> Obj:
    """At the end of the period. In flexible billing mode that is `cancel_at` alone; only classic sets the flag."""
    subscription = account.store.get("subscription", subscription_id)
    is_flexible = subscription["billing_mode"]["type"] == "flexible"
    params = {"cancel_at": "min_period_end"} if is_flexible else {"cancel_at_period_end": "true"}
    return subscriptions.update(account, subscription_id, params)


def keep(account: Account, subscription_id: str) -> Obj:
    """Take a planned cancellation back."""
    return subscriptions.update(account, subscription_id, {"cancel_at": ""})


def change(account: Account, subscription_id: str, price_id: str, quantity: int) -> Obj:
    """Another plan or quantity for the first item; the difference is paid now, or the change waits."""
    item = account.store.get("subscription", subscription_id)["items"]["data"][0]
    changed = {"id": item["id"], "price": price_id, "quantity": str(quantity)}
    behavior = {"proration_behavior": "always_invoice", "payment_behavior": "pending_if_incomplete"}
    return subscriptions.update(account, subscription_id, {"items": [changed], **behavior})


def change_card(account: Account, customer_id: str, card: str) -> Obj:
    """Make it the default of the customer and of each subscription that has one of its own."""
    customer = account.store.get("customer", customer_id)
    method = payment_methods.attached(account, card, customer_id)
    setup_intents.succeed(account, customer_id, method)
    payment_methods.set_default(account, customer, method["id"])
    for subscription in account.store.of("subscription", customer=customer_id):
        if subscription["default_payment_method"] and subscription["status"] not in ENDED:
            subscriptions.update(account, subscription["id"], {"default_payment_method": method["id"]})
    return method


def _flow(given: Obj) -> Obj:
    flow: Obj = {"type": given.get("type"), **nulls(" ".join(FLOWS))}
    flow |= {name: given[name] for name in FLOWS if name in given}
    done = given.get("after_completion") or {"type": "portal_homepage"}
    return flow | {"after_completion": nulls("hosted_confirmation redirect") | done}


def _configuration(account: Account) -> Obj:
    """The one that all portals have; it is made when first asked for."""
    if found := account.store.of("billing_portal.configuration"):
        return found[0]
    profile = nulls("headline privacy_policy_url terms_of_service_url")
    obj = fresh(account, "billing_portal.configuration", "bpc", business_profile=profile, is_default=True)
    return create(account, obj | {"updated": account.now()}, "billing_portal.configuration.created")


def _list_configurations(account: Account, params: Obj) -> Obj:
    return page_of([_configuration(account)], params, "/v1/billing_portal/configurations")


OPERATIONS: list[Operation] = [
    ("POST", "/v1/billing_portal/sessions", open_session),
    ("GET", "/v1/billing_portal/configurations", _list_configurations),
]
