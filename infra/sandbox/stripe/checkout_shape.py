"""What a Checkout session looks like."""

from __future__ import annotations

from infra.sandbox.stripe.objects import nulls
from infra.sandbox.stripe.params import boolean, integer, merge_metadata, one_of
from infra.sandbox.stripe.store import Account, Obj

MODES = ("subscription", "payment", "setup")


def shape(account: Account, params: Obj, expires_at: int) -> Obj:
    """Open. A trial costs nothing today. Raises StripeError for prices that are unknown."""
    session_id = account.new_id("cs_test")
    mode = one_of(params, "mode", MODES, "")
    items = line_items(account, params.get("line_items") or [])
    trial = params.get("subscription_data") or {}
    is_free = mode == "setup" or trial.get("trial_period_days") or trial.get("trial_end")
    total = 0 if is_free else sum(item["amount_total"] for item in items)
    session: Obj = {
        "id": session_id,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": False},
        "allow_promotion_codes": boolean(params, "allow_promotion_codes"),
        "amount_subtotal": total,
        "amount_total": total,
        "automatic_tax": {"enabled": False, **nulls("liability provider status")},
        "cancel_url": params.get("cancel_url"),
        "client_reference_id": params.get("client_reference_id"),
        "created": account.now(),
        "currency": items[0]["currency"] if items else params.get("currency"),
        "custom_fields": [],
        "custom_text": nulls("after_submit shipping_address submit terms_of_service_acceptance"),
        "customer": params.get("customer"),
        "customer_creation": None if params.get("customer") or mode == "payment" else "always",
        "customer_email": params.get("customer_email"),
        "discounts": [],
        "expires_at": expires_at,
        "livemode": False,
        "metadata": {},
        "mode": mode,
        "payment_method_collection": "always",
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"],
        "payment_status": "no_payment_required" if is_free else "unpaid",
        "phone_number_collection": {"enabled": False},
        "saved_payment_method_options": None,
        "shipping_options": [],
        "status": "open",
        "success_url": params["success_url"],
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": f"{account.address}/checkout/{session_id}",
        "wallet_options": None,
        **nulls("after_expiration billing_address_collection client_secret collected_information consent"),
        **nulls("consent_collection currency_conversion customer_account customer_details invoice invoice_creation"),
        **nulls("locale origin_context payment_intent payment_link payment_method_configuration_details permissions"),
        **nulls("recovered_from setup_intent shipping_address_collection shipping_cost submit_type subscription"),
    }
    merge_metadata(session, params)
    return session


def line_items(account: Account, given: list[Obj]) -> list[Obj]:
    found = []
    for index, one in enumerate(given):
        price = account.store.get("price", one.get("price"), f"line_items[{index}][price]")
        quantity = integer(one, "quantity", 1) or 1
        amount = quantity * (price["unit_amount"] or 0)
        metered = (price["recurring"] or {}).get("usage_type") == "metered"
        found.append(
            {
                "id": f"li_{price['id']}",
                "object": "item",
                "amount_discount": 0,
                "amount_subtotal": 0 if metered else amount,
                "amount_tax": 0,
                "amount_total": 0 if metered else amount,
                "currency": price["currency"],
                "description": account.store.get("product", price["product"])["name"],
                "price": price,
                "quantity": quantity,
            }
        )
    return found
