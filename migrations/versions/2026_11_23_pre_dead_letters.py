"""What staff see across organizations: messages that were given up on, and the log of what is nobody's.

Phase: expand (pre). Follows 2026_11_23_pre_consents.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations import ddl

revision = "2026_11_23_pre_dead_letters"
down_revision = "2026_11_23_pre_consents"
branch_labels = None
depends_on = None

STAFF = "(SELECT is_staff FROM users WHERE id = nullif(current_setting('app.user', true), '')::uuid)"


def upgrade() -> None:
    ddl.policy(
        "webhook_deliveries_failed",
        "webhook_deliveries",
        f"FOR SELECT TO ballast_app USING (state = 'failed' AND {STAFF})",
    )
    ddl.policy(
        "audit_log_of_nobody", "audit_log", f"FOR SELECT TO ballast_app USING (organization_id IS NULL AND {STAFF})"
    )
    with op.get_context().autocommit_block():
        ddl.index_beside(
            "ix_webhook_deliveries_failed",
            "webhook_deliveries",
            ["created_at", "id"],
            postgresql_where=sa.text("state = 'failed'"),
        )
