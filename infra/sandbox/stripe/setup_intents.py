"""Cards saved for later: setup intents that succeed at once (docs.stripe.com/api/setup_intents)."""

from __future__ import annotations

from infra.sandbox.stripe import payment_methods
from infra.sandbox.stripe.changes import changing, create
from infra.sandbox.stripe.objects import nulls
from infra.sandbox.stripe.params import boolean
from infra.sandbox.stripe.store import Account, Obj, page_of
from infra.sandbox.stripe.wire import Operation


def succeed(account: Account, customer_id: str | None, method: Obj) -> Obj:
    """One for a card that is there already."""
    intent = _make(account, customer_id)
    with changing(account, intent, "setup_intent.succeeded"):
        intent.update(status="succeeded", payment_method=method["id"])
    return intent


def _make(account: Account, customer_id: str | None) -> Obj:
    intent_id = account.new_id("seti")
    obj: Obj = {
        "id": intent_id,
        "object": "setup_intent",
        "client_secret": f"{intent_id}_secret_{account.new_id('s')}",
        "created": account.now(),
        "customer": customer_id,
        "livemode": False,
        "metadata": {},
        "payment_method_types": ["card"],
        "status": "requires_payment_method",
        "usage": "off_session",
        **nulls("application automatic_payment_methods cancellation_reason customer_account description"),
        **nulls("excluded_payment_method_types flow_directions last_setup_error latest_attempt mandate next_action"),
        **nulls("on_behalf_of payment_method payment_method_configuration_details payment_method_options"),
        **nulls("single_use_mandate"),
    }
    return create(account, obj, "setup_intent.created")


def add(account: Account, params: Obj) -> Obj:
    intent = _make(account, params.get("customer"))
    return confirm(account, params, intent["id"]) if boolean(params, "confirm") else intent


def confirm(account: Account, params: Obj, object_id: str) -> Obj:
    intent = account.store.get("setup_intent", object_id)
    token = params.get("payment_method", "pm_card_visa")
    owner = intent["customer"]
    method = payment_methods.attached(account, token, owner) if owner else payment_methods.resolve(account, token)
    with changing(account, intent, "setup_intent.succeeded"):
        intent.update(status="succeeded", payment_method=method["id"])
    return intent


def list_(account: Account, params: Obj) -> Obj:
    wanted = {"customer": params["customer"]} if params.get("customer") else {}
    return page_of(account.store.of("setup_intent", **wanted), params, "/v1/setup_intents")


def retrieve(account: Account, params: Obj, object_id: str) -> Obj:
    return account.store.get("setup_intent", object_id)


OPERATIONS: list[Operation] = [
    ("POST", "/v1/setup_intents", add),
    ("GET", "/v1/setup_intents", list_),
    ("GET", "/v1/setup_intents/{object_id}", retrieve),
    ("POST", "/v1/setup_intents/{object_id}/confirm", confirm),
]
