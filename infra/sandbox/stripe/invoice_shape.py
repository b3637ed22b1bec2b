"""What an invoice looks like."""

from __future__ import annotations

from infra.sandbox.stripe.objects import automatic_tax, listing, nulls
from infra.sandbox.stripe.store import Account, Obj


def shape(account: Account, customer: Obj, reason: str, lines: list[Obj], subscription: Obj | None) -> Obj:
    """An invoice that is not kept anywhere yet: a draft in the making, or a preview."""
    invoice_id = account.new_id("in")
    for line in lines:
        line["invoice"] = invoice_id
    total = sum(line["amount"] for line in lines)
    parent = None
    if subscription:
        details = {"metadata": dict(subscription["metadata"]), "subscription": subscription["id"]}
        parent = {"type": "subscription_details", "subscription_details": details, "quote_details": None}
    balance = customer["balance"]
    method = subscription["default_payment_method"] if subscription else None
    due = max(0, total + balance)
    return {
        "id": invoice_id,
        "object": "invoice",
        "account_country": "US",
        "account_name": "Ballast",
        "amount_due": due,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_remaining": due,
        "amount_shipping": 0,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": automatic_tax() | nulls("provider status"),
        "automatically_finalizes_at": None,
        "billing_reason": reason,
        "collection_method": subscription["collection_method"] if subscription else "charge_automatically",
        "created": account.now(),
        "currency": (lines or [subscription or {"currency": "usd"}])[0]["currency"],
        "customer": customer["id"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_tax_exempt": "none",
        "customer_tax_ids": [],
        "default_payment_method": method,
        "default_tax_rates": [],
        "discounts": [],
        "issuer": {"type": "self"},
        "lines": listing(lines, f"/v1/invoices/{invoice_id}/lines"),
        "livemode": False,
        "metadata": {},
        "parent": parent,
        "payment_settings": nulls("default_mandate payment_method_options payment_method_types"),
        "period_end": account.now(),
        "period_start": account.now(),
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "starting_balance": balance,
        "status": "draft",
        "status_transitions": nulls("finalized_at marked_uncollectible_at paid_at voided_at"),
        "subtotal": total,
        "subtotal_excluding_tax": total,
        "total": total,
        "total_discount_amounts": [],
        "total_excluding_tax": total,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        **nulls("account_tax_ids application custom_fields customer_account customer_address customer_shipping"),
        **nulls(
            "default_source description due_date effective_at ending_balance footer from_invoice hosted_invoice_url"
        ),
        **nulls("invoice_pdf last_finalization_error latest_revision next_payment_attempt number on_behalf_of"),
        **nulls("receipt_number rendering shipping_cost shipping_details statement_descriptor test_clock"),
        **nulls("webhooks_delivered_at"),
    }
