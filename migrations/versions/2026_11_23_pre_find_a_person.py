"""Find what one person did, and which mails went to one address: an export and an erasure ask for it.

Phase: expand (pre). Follows 2026_11_23_pre_sealed_columns.
"""

from __future__ import annotations

from alembic import op

from migrations import ddl

revision = "2026_11_23_pre_find_a_person"
down_revision = "2026_11_23_pre_sealed_columns"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        ddl.index_beside(
            "ix_audit_log_actor_id_id",
            "audit_log",
            ["actor_id", "id"],
        )
        ddl.index_beside(
            "ix_sent_mails_address_hash",
            "sent_mails",
            ["address_hash"],
        )
