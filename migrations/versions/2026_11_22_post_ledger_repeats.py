"""A dispute may come back to a status that it had: the ledger takes the same fact again.

Phase: contract (post). Follows 2026_11_22_pre_billing.
"""

from __future__ import annotations

from alembic import op

revision = "2026_11_22_post_ledger_repeats"
down_revision = "2026_11_22_pre_billing"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Beside the traffic: a plain DROP INDEX waits for every transaction on the table, and all others wait behind it.
    with op.get_context().autocommit_block():
        op.drop_index(
            "uq_billing_ledger_fact", table_name="billing_ledger", postgresql_concurrently=True, if_exists=True
        )
