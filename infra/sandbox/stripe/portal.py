"""The customer portal: its sessions, and what a person can do there (docs.stripe.com/customer-management)."""

from __future__ import annotations

from infra.sandbox.stripe import payment_methods, setup_intents, subscriptions
from infra.sandbox.stripe.changes import changing, create
from infra.sandbox.stripe.objects import nulls
from infra.sandbox.stripe.params import boolean, merge_metadata, required
from infra.sandbox.stripe.store import Account, Obj, page_of
from infra.sandbox.stripe.wire import Operation

FLOWS = ("subscription_cancel", "subscription_update", "subscription_update_confirm")


def open_session(account: Account, params: Obj) -> Obj:
    required(params, "customer")
    customer = account.store.get("customer", params["customer"], "customer")
    session_id = account.new_id("bps")
    obj: Obj = {
        "id": session_id,
        "object": "billing_portal.session",
        "configuration": params.get("configuration") or _default(account)["id"],
        "created": account.now(),
        "customer": customer["id"],
        "flow": _flow(params["flow_data"]) if params.get("flow_data") else None,
        "livemode": False,
        "return_url": params.get("return_url"),
        "url": f"{account.address}/portal/{session_id}",
        **nulls("customer_account locale on_behalf_of"),
    }
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
        if subscription["default_payment_method"] and subscription["status"] not in subscriptions.ENDED:
            subscriptions.update(account, subscription["id"], {"default_payment_method": method["id"]})
    return method


def _flow(given: Obj) -> Obj:
    flow: Obj = {"type": given.get("type"), **nulls(" ".join(FLOWS))}
    flow |= {name: given[name] for name in FLOWS if name in given}
    done = given.get("after_completion") or {"type": "portal_homepage"}
    return flow | {"after_completion": nulls("hosted_confirmation redirect") | done}


def add_configuration(account: Account, params: Obj) -> Obj:
    return _configuration(account, params, is_default=False)


def update_configuration(account: Account, params: Obj, object_id: str) -> Obj:
    configuration = account.store.get("billing_portal.configuration", object_id)
    with changing(account, configuration, "billing_portal.configuration.updated"):
        configuration["active"] = boolean(params, "active", default=configuration["active"])
        merge_metadata(configuration, params)
        configuration["updated"] = account.now()
    return configuration


def _default(account: Account) -> Obj:
    found = account.store.of("billing_portal.configuration", is_default=True)
    return found[0] if found else _configuration(account, {}, is_default=True)


def _configuration(account: Account, params: Obj, *, is_default: bool) -> Obj:
    profile = params.get("business_profile") or {}
    reasons = {"enabled": False, "options": ["too_expensive", "missing_features", "unused", "other"]}
    features: Obj = {
        "customer_update": {"allowed_updates": ["email"], "enabled": True},
        "invoice_history": {"enabled": True},
        "payment_method_update": {"enabled": True, "payment_method_configuration": None},
        "subscription_cancel": {
            "cancellation_reason": reasons,
            "enabled": True,
            "mode": "at_period_end",
            "proration_behavior": "none",
        },
        "subscription_pause": {"duration": {"interval_options": [], "type": "indefinite"}, "enabled": False},
        "subscription_update": {
            "default_allowed_updates": ["price", "quantity"],
            "enabled": True,
            "proration_behavior": "always_invoice",
            "schedule_at_period_end": {"conditions": []},
            "trial_update_behavior": "end_trial",
            **nulls("billing_cycle_anchor products"),
        },
    }
    obj: Obj = {
        "id": account.new_id("bpc"),
        "object": "billing_portal.configuration",
        "active": True,
        "application": None,
        "business_profile": nulls("headline privacy_policy_url terms_of_service_url") | profile,
        "created": account.now(),
        "default_return_url": params.get("default_return_url"),
        "features": features,
        "is_default": is_default,
        "livemode": False,
        "login_page": {"enabled": False, "url": None},
        "metadata": {},
        "name": params.get("name"),
        "updated": account.now(),
    }
    merge_metadata(obj, params)
    return create(account, obj, "billing_portal.configuration.created")


def list_configurations(account: Account, params: Obj) -> Obj:
    _default(account)
    every = account.store.of("billing_portal.configuration")
    return page_of(every, params, "/v1/billing_portal/configurations")


def retrieve_configuration(account: Account, params: Obj, object_id: str) -> Obj:
    return account.store.get("billing_portal.configuration", object_id)


OPERATIONS: list[Operation] = [
    ("POST", "/v1/billing_portal/sessions", open_session),
    ("POST", "/v1/billing_portal/configurations", add_configuration),
    ("GET", "/v1/billing_portal/configurations", list_configurations),
    ("GET", "/v1/billing_portal/configurations/{object_id}", retrieve_configuration),
    ("POST", "/v1/billing_portal/configurations/{object_id}", update_configuration),
]
