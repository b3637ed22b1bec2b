"""Billing: the inbox, entitlements, our copy of Stripe, and the operations we ask of it.

Phase: expand (pre). Follows 2026_11_22_pre_foundation.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import ddl

revision = "2026_11_22_pre_billing"
down_revision = "2026_11_22_pre_foundation"
branch_labels = None
depends_on = None


TENANT_TABLES = (
    "billing_effects",
    "billing_invoices",
    "billing_ledger",
    "billing_operations",
    "billing_overrides",
    "billing_subscriptions",
    "entitlement_history",
    "entitlements",
)
APPEND_ONLY = ("billing_ledger", "entitlement_history")
GLOBAL_TABLES = ("billing_customers", "billing_sweeps", "inbox")


def upgrade() -> None:
    create_tables()
    for name in TENANT_TABLES:
        ddl.tenant_table(name)
    for name in APPEND_ONLY:
        # What money did is not rewritten, not even by us.
        op.execute(f"REVOKE UPDATE ON {name} FROM ballast_app")
    for name in GLOBAL_TABLES:
        rights = {"ballast_app": "SELECT, INSERT, UPDATE", "ballast_maintenance": "SELECT, INSERT, UPDATE, DELETE"}
        ddl.global_table(name, rights)
    # Staff look for a customer by a part of its name; nothing else shows them an organization they do not act for.
    op.execute("""
        CREATE POLICY organizations_sought ON organizations FOR SELECT TO ballast_app USING (
            position(lower(nullif(current_setting('app.sought', true), '')) in lower(name)) > 0
            AND (SELECT is_staff FROM users WHERE id = nullif(current_setting('app.user', true), '')::uuid)
        )
    """)


def create_tables() -> None:
    op.create_table(
        "billing_sweeps",
        sa.Column("stream", sa.String(length=32), nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("ran_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("drift", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("stream", name=op.f("pk_billing_sweeps")),
    )
    op.create_table(
        "inbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("realm", sa.String(length=64), nullable=False),
        sa.Column("external_id", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=128), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=True),
        sa.Column("facts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("gen", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("received_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("processed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("applied_version", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbox")),
        sa.UniqueConstraint("source", "realm", "external_id", name=op.f("uq_inbox_source_realm_external_id")),
    )
    op.create_index(
        "ix_inbox_body", "inbox", ["received_at"], unique=False, postgresql_where=sa.text("body IS NOT NULL")
    )
    op.create_index(
        "ix_inbox_due",
        "inbox",
        ["source", "next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('pending', 'unmatched')"),
    )
    op.create_index(op.f("ix_inbox_received_at"), "inbox", ["received_at"], unique=False)
    op.create_index("ix_inbox_source_subject_gen", "inbox", ["source", "subject", "gen"], unique=False)
    op.create_index("ix_inbox_state_id", "inbox", ["state", "id"], unique=False)
    op.create_index("ix_inbox_type_id", "inbox", ["type", "id"], unique=False)
    op.create_table(
        "billing_customers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("stripe_customer_id", sa.String(length=255), nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("sync_version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("dirty_gen", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("synced_gen", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("dirty_since", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("dead_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_synced_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_error", sa.String(length=200), nullable=True),
        sa.CheckConstraint("synced_gen <= dirty_gen", name=op.f("ck_billing_customers_synced_is_not_ahead")),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_billing_customers_organization_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_billing_customers")),
        sa.UniqueConstraint("stripe_customer_id", name=op.f("uq_billing_customers_stripe_customer_id")),
    )
    op.create_index(
        "ix_billing_customers_dirty",
        "billing_customers",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("dirty_gen > synced_gen"),
    )
    op.create_index("ix_billing_customers_organization_id", "billing_customers", ["organization_id"], unique=False)
    op.create_index(
        "uq_billing_customers_living",
        "billing_customers",
        ["organization_id", "livemode"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "billing_effects",
        sa.Column("effect_key", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=True),
        sa.Column("settled_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_billing_effects_organization_id")
        ),
        sa.PrimaryKeyConstraint("effect_key", name=op.f("pk_billing_effects")),
    )
    op.create_index("ix_billing_effects_organization_id", "billing_effects", ["organization_id"], unique=False)
    op.create_table(
        "billing_operations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("intent", sa.String(length=64), nullable=False),
        sa.Column("wish", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("method", sa.String(length=8), nullable=True),
        sa.Column("path", sa.String(length=255), nullable=True),
        sa.Column("params", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("result_id", sa.String(length=255), nullable=True),
        sa.Column("result_url", sa.String(), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=200), server_default="", nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("first_sent_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("settled_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_billing_operations_organization_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_billing_operations")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_billing_operations_idempotency_key")),
        sa.UniqueConstraint("organization_id", "intent", name=op.f("uq_billing_operations_organization_id_intent")),
    )
    op.create_index(
        "ix_billing_operations_open",
        "billing_operations",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('planned', 'in_flight', 'unknown')"),
    )
    op.create_index(
        "ix_billing_operations_organization_id_id", "billing_operations", ["organization_id", "id"], unique=False
    )
    op.create_index(
        "uq_billing_operations_in_flight",
        "billing_operations",
        ["organization_id"],
        unique=True,
        postgresql_where=sa.text(
            "status IN ('planned', 'in_flight', 'unknown')"
            " AND kind IN ('checkout', 'change_plan', 'cancel', 'resume', 'seats', 'cancel_now', 'refund')"
        ),
    )
    op.create_table(
        "billing_overrides",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("plan", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("ends_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_billing_overrides_organization_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_billing_overrides")),
    )
    op.create_index(
        "ix_billing_overrides_organization_id_ends_at",
        "billing_overrides",
        ["organization_id", "ends_at"],
        unique=False,
    )
    op.create_table(
        "entitlement_history",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("plan", sa.String(length=32), nullable=False),
        sa.Column("grants", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("full_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("valid_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_entitlement_history_organization_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entitlement_history")),
    )
    op.create_index(op.f("ix_entitlement_history_at"), "entitlement_history", ["at"], unique=False)
    op.create_index(
        "ix_entitlement_history_organization_id_id", "entitlement_history", ["organization_id", "id"], unique=False
    )
    op.create_table(
        "entitlements",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("plan", sa.String(length=32), nullable=False),
        sa.Column("grants", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("full_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("valid_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_entitlements_organization_id")
        ),
        sa.PrimaryKeyConstraint("organization_id", name=op.f("pk_entitlements")),
    )
    op.create_table(
        "billing_invoices",
        sa.Column("stripe_id", sa.String(length=255), nullable=False),
        sa.Column("customer_id", sa.Uuid(), nullable=False),
        sa.Column("subscription_id", sa.String(length=255), nullable=True),
        sa.Column("number", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("amount_due", sa.BigInteger(), nullable=False),
        sa.Column("amount_paid", sa.BigInteger(), nullable=False),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("needs_action", sa.Boolean(), nullable=False),
        sa.Column("hosted_url", sa.Text(), nullable=True),
        sa.Column("pdf_url", sa.Text(), nullable=True),
        sa.Column("period_start", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("period_end", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("fetched_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["billing_customers.id"], name=op.f("fk_billing_invoices_customer_id")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_billing_invoices_organization_id")
        ),
        sa.PrimaryKeyConstraint("stripe_id", name=op.f("pk_billing_invoices")),
    )
    op.create_index(op.f("ix_billing_invoices_customer_id"), "billing_invoices", ["customer_id"], unique=False)
    op.create_index(
        "ix_billing_invoices_organization_id_created_at_id",
        "billing_invoices",
        ["organization_id", "created_at", "stripe_id"],
        unique=False,
    )
    op.create_table(
        "billing_ledger",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("customer_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("stripe_id", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("about", sa.String(length=255), nullable=True),
        sa.Column("occurred_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["billing_customers.id"], name=op.f("fk_billing_ledger_customer_id")),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_billing_ledger_organization_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_billing_ledger")),
    )
    op.create_index(op.f("ix_billing_ledger_customer_id"), "billing_ledger", ["customer_id"], unique=False)
    op.create_index("ix_billing_ledger_organization_id_id", "billing_ledger", ["organization_id", "id"], unique=False)
    op.create_index("ix_billing_ledger_stripe_id", "billing_ledger", ["stripe_id"], unique=False)
    op.create_index("uq_billing_ledger_fact", "billing_ledger", ["kind", "stripe_id", "status", "amount"], unique=True)
    op.create_table(
        "billing_subscriptions",
        sa.Column("stripe_id", sa.String(length=255), nullable=False),
        sa.Column("customer_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("items", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("cancel_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("cancel_at_period_end", sa.Boolean(), nullable=False),
        sa.Column("canceled_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("trial_start", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("trial_end", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("period_start", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("period_end", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("collection_method", sa.String(length=32), nullable=True),
        sa.Column("pause_collection", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("pending_update", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("schedule_id", sa.String(length=255), nullable=True),
        sa.Column("latest_invoice_id", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("fetched_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "status IN ('trialing', 'active', 'past_due', 'unpaid', 'paused', "
            "'incomplete', 'incomplete_expired', 'canceled', 'unknown')",
            name=op.f("ck_billing_subscriptions_status"),
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["billing_customers.id"], name=op.f("fk_billing_subscriptions_customer_id")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_billing_subscriptions_organization_id")
        ),
        sa.PrimaryKeyConstraint("stripe_id", name=op.f("pk_billing_subscriptions")),
    )
    op.create_index(
        op.f("ix_billing_subscriptions_customer_id"), "billing_subscriptions", ["customer_id"], unique=False
    )
    op.create_index(
        "ix_billing_subscriptions_organization_id_created_at",
        "billing_subscriptions",
        ["organization_id", "created_at"],
        unique=False,
    )
