"""Find what one person did, and which mails went to one address: an export and an erasure ask for it.

Phase: expand (pre). Follows 2026_11_23_pre_sealed_columns.
"""

from __future__ import annotations

from alembic import op

revision = "2026_11_23_pre_find_a_person"
down_revision = "2026_11_23_pre_sealed_columns"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Beside the traffic: a plain CREATE INDEX lets nobody write to the table meanwhile.
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_audit_log_actor_id_id",
            "audit_log",
            ["actor_id", "id"],
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.create_index(
            "ix_sent_mails_address_hash",
            "sent_mails",
            ["address_hash"],
            postgresql_concurrently=True,
            if_not_exists=True,
        )
