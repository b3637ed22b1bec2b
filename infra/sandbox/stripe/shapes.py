"""What Stripe's objects look like when nothing has happened to them yet: fields by the value that they start with.

docs.stripe.com/api. The tests compare every object with the types of Stripe's own library.
"""

from __future__ import annotations

from typing import Any

from infra.sandbox.stripe.objects import copied, nulls
from infra.sandbox.stripe.store import Account, Obj


def fresh(account: Account, kind: str, prefix: str, **fields: Any) -> Obj:
    """A new object of this kind, not kept yet: what all of them start with, then what this one is given."""
    shown: Obj = {"id": account.new_id(prefix), "object": kind} | copied(BLANK[kind])
    if "created" in shown:
        shown["created"] = account.now()
    return shown | fields


def blank(*, null: str = "", zero: str = "", false: str = "", lists: str = "", hashes: str = "", **rest: Any) -> Obj:
    names = {**nulls(null), **dict.fromkeys(zero.split(), 0), **dict.fromkeys(false.split(), False)}
    return names | {name: [] for name in lists.split()} | {name: {} for name in hashes.split()} | rest


ADDRESS = nulls("city country line1 line2 postal_code state")
BILLING_DETAILS = {"address": ADDRESS, **nulls("email name phone tax_id")}
AUTOMATIC_TAX = blank(null="disabled_reason liability", false="enabled")
FLEXIBLE = {"type": "flexible", "flexible": {"proration_discounts": "included"}}
DISPUTE_TEXTS = """
    access_activity_log billing_address cancellation_policy_disclosure cancellation_rebuttal customer_email_address
    customer_name customer_purchase_ip duplicate_charge_explanation duplicate_charge_id product_description
    refund_policy_disclosure refund_refusal_explanation service_date shipping_address shipping_carrier shipping_date
    shipping_tracking_number uncategorized_text
"""
DISPUTE_FILES = """
    cancellation_policy customer_communication customer_signature duplicate_charge_documentation receipt refund_policy
    service_documentation shipping_documentation uncategorized_file
"""

BLANK: dict[str, Obj] = {
    "billing.meter": blank(
        null="created event_time_window updated",
        false="livemode",
        status="active",
        status_transitions=nulls("deactivated_at"),
    ),
    "billing.meter_event": blank(null="created", false="livemode"),
    "billing.meter_event_summary": blank(false="livemode"),
    "billing_portal.configuration": blank(
        null="application created default_return_url name",
        false="livemode",
        hashes="metadata",
        active=True,
        features={
            "customer_update": {"allowed_updates": ["email"], "enabled": True},
            "invoice_history": {"enabled": True},
            "payment_method_update": {"enabled": True, "payment_method_configuration": None},
            "subscription_cancel": {
                "cancellation_reason": {
                    "enabled": False,
                    "options": ["too_expensive", "missing_features", "unused", "other"],
                },
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
        },
        login_page={"enabled": False, "url": None},
    ),
    "billing_portal.session": blank(
        null="created customer_account flow locale on_behalf_of return_url", false="livemode"
    ),
    "charge": blank(
        null="""application application_fee application_fee_amount balance_transaction
            calculated_statement_descriptor created failure_balance_transaction failure_code failure_message
            on_behalf_of receipt_email receipt_number receipt_url review shipping source source_transfer
            statement_descriptor statement_descriptor_suffix transfer_data transfer_group""",
        zero="amount_captured amount_refunded",
        false="captured disputed livemode paid refunded",
        hashes="fraud_details metadata",
        billing_details=BILLING_DETAILS,
    ),
    "checkout.session": blank(
        null="""after_expiration billing_address_collection cancel_url client_reference_id client_secret
            collected_information consent consent_collection created currency_conversion customer customer_account
            customer_details customer_email invoice invoice_creation locale origin_context payment_intent payment_link
            payment_method_configuration_details permissions recovered_from saved_payment_method_options setup_intent
            shipping_address_collection shipping_cost submit_type subscription wallet_options""",
        false="livemode",
        lists="custom_fields discounts shipping_options",
        hashes="metadata",
        adaptive_pricing={"enabled": False},
        automatic_tax=blank(null="liability provider status", false="enabled"),
        custom_text=nulls("after_submit shipping_address submit terms_of_service_acceptance"),
        payment_method_collection="always",
        payment_method_options={"card": {"request_three_d_secure": "automatic"}},
        payment_method_types=["card"],
        phone_number_collection={"enabled": False},
        status="open",
        total_details=blank(zero="amount_discount amount_shipping amount_tax"),
        ui_mode="hosted_page",
    ),
    "credit_note": blank(
        null="""created customer_account customer_balance_transaction memo out_of_band_amount reason shipping_cost
            voided_at""",
        zero="amount_shipping discount_amount",
        false="livemode",
        lists="discount_amounts pretax_credit_amounts refunds total_taxes",
        hashes="metadata",
        status="issued",
    ),
    "credit_note_line_item": blank(
        zero="discount_amount",
        false="livemode",
        lists="discount_amounts pretax_credit_amounts tax_rates taxes",
        hashes="metadata",
        quantity=1,
        type="custom_line_item",
    ),
    "customer": blank(
        null="""address created currency default_source description discount email name phone shipping
            test_clock""",
        zero="balance",
        false="delinquent livemode",
        lists="preferred_locales",
        hashes="metadata",
        invoice_settings=nulls("custom_fields default_payment_method footer rendering_options"),
        next_invoice_sequence=1,
        tax_exempt="none",
    ),
    "dispute": blank(
        null="created",
        false="is_charge_refundable livemode",
        lists="balance_transactions enhanced_eligibility_types",
        hashes="metadata",
        evidence=nulls(DISPUTE_TEXTS + DISPUTE_FILES) | {"enhanced_evidence": {}},
        evidence_details=blank(
            zero="submission_count",
            false="has_evidence past_due",
            hashes="enhanced_eligibility",
            submission_method="not_submitted",
        ),
        payment_method_details={
            "card": {"brand": "visa", "case_type": "chargeback", "network_reason_code": "10.4", "network": "visa"},
            "type": "card",
        },
        status="needs_response",
    ),
    "entitlements.active_entitlement": blank(null="created", false="livemode"),
    "entitlements.feature": blank(null="created", false="livemode", hashes="metadata", active=True),
    "invoice": blank(
        null="""account_tax_ids application automatically_finalizes_at created custom_fields customer_account
            customer_address customer_shipping default_payment_method default_source description due_date effective_at
            ending_balance footer from_invoice hosted_invoice_url invoice_pdf last_finalization_error latest_revision
            next_payment_attempt number on_behalf_of parent receipt_number rendering shipping_cost shipping_details
            statement_descriptor test_clock webhooks_delivered_at""",
        zero="""amount_overpaid amount_paid amount_shipping attempt_count post_payment_credit_notes_amount
            pre_payment_credit_notes_amount""",
        false="attempted livemode",
        lists="""customer_tax_ids default_tax_rates discounts total_discount_amounts total_pretax_credit_amounts
            total_taxes""",
        hashes="metadata",
        account_country="US",
        account_name="Ballast",
        auto_advance=True,
        automatic_tax=AUTOMATIC_TAX | nulls("provider status"),
        collection_method="charge_automatically",
        customer_tax_exempt="none",
        issuer={"type": "self"},
        payment_settings=nulls("default_mandate payment_method_options payment_method_types"),
        status="draft",
        status_transitions=nulls("finalized_at marked_uncollectible_at paid_at voided_at"),
    ),
    "invoice_payment": blank(
        null="amount_paid created",
        false="livemode",
        is_default=True,
        status="open",
        status_transitions=nulls("canceled_at paid_at"),
    ),
    "invoiceitem": blank(
        null="customer_account description invoice net_amount parent pricing proration_details test_clock",
        false="livemode proration",
        lists="discounts tax_rates",
        hashes="metadata",
        discountable=True,
        quantity=1,
        quantity_decimal="1",
    ),
    "line_item": blank(
        null="description invoice",
        false="livemode",
        lists="discount_amounts discounts pretax_credit_amounts taxes",
        hashes="metadata",
    ),
    "payment_intent": blank(
        null="""amount_details application application_fee_amount automatic_payment_methods canceled_at
            cancellation_reason created customer customer_account description excluded_payment_method_types
            last_payment_error latest_charge next_action on_behalf_of payment_method
            payment_method_configuration_details payment_method_options processing receipt_email review
            setup_future_usage shipping source statement_descriptor statement_descriptor_suffix transfer_data
            transfer_group""",
        zero="amount_capturable amount_received",
        false="livemode",
        hashes="metadata",
        capture_method="automatic",
        confirmation_method="automatic",
        payment_method_types=["card"],
        status="requires_payment_method",
    ),
    "payment_method": blank(
        null="created customer customer_account",
        false="livemode",
        hashes="metadata",
        allow_redisplay="unspecified",
        billing_details=BILLING_DETAILS,
        type="card",
    ),
    "price": blank(
        null="created custom_unit_amount lookup_key nickname recurring tiers_mode transform_quantity",
        false="livemode",
        hashes="metadata",
        billing_scheme="per_unit",
        tax_behavior="unspecified",
    ),
    "product": blank(
        null="""created default_price description name package_dimensions shippable statement_descriptor tax_code
            unit_label url""",
        false="livemode",
        lists="images marketing_features",
        hashes="metadata",
        type="service",
    ),
    "product_feature": blank(null="created", false="livemode"),
    "refund": blank(
        null="created receipt_number source_transfer_reversal transfer_reversal",
        hashes="metadata",
        destination_details={"card": {"type": "refund", "reference_status": "pending"}, "type": "card"},
        status="succeeded",
    ),
    "setup_intent": blank(
        null="""application automatic_payment_methods cancellation_reason created customer customer_account
            description excluded_payment_method_types flow_directions last_setup_error latest_attempt mandate
            next_action on_behalf_of payment_method payment_method_configuration_details payment_method_options
            single_use_mandate""",
        false="livemode",
        hashes="metadata",
        payment_method_types=["card"],
        status="requires_payment_method",
        usage="off_session",
    ),
    "subscription": blank(
        null="""application application_fee_percent billing_cycle_anchor_config billing_thresholds cancel_at
            canceled_at created customer_account days_until_due default_payment_method default_source description
            ended_at latest_invoice managed_payments next_pending_invoice_item_invoice on_behalf_of pause_collection
            pending_invoice_item_interval pending_setup_intent pending_update schedule test_clock transfer_data
            trial_end trial_start""",
        false="cancel_at_period_end livemode",
        lists="billing_schedules default_tax_rates discounts",
        hashes="metadata",
        automatic_tax=AUTOMATIC_TAX,
        billing_mode=FLEXIBLE,
        cancellation_details=nulls("comment feedback reason"),
        collection_method="charge_automatically",
        invoice_settings={"issuer": {"type": "self"}, **nulls("account_tax_ids custom_fields description footer")},
        payment_settings={
            "save_default_payment_method": "off",
            **nulls("payment_method_options payment_method_types"),
        },
        status="incomplete",
        trial_settings={"end_behavior": {"missing_payment_method": "create_invoice"}},
    ),
    "subscription_item": blank(null="billing_thresholds created", lists="discounts tax_rates", hashes="metadata"),
    "test_helpers.test_clock": blank(null="created name", false="livemode", hashes="status_details", status="ready"),
}
