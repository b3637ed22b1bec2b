"""Find what is due to go: the log's rows by their age, and legal holds that are over.

Phase: expand (pre).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations import ddl

revision = "2026_11_23_pre_audit_ages"
down_revision = "2026_11_23_pre_audit_retention"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        ddl.index_beside("ix_audit_log_at", "audit_log", ["at"])
        over = sa.text("lifted_at IS NOT NULL")
        ddl.index_beside("ix_legal_holds_lifted_at", "legal_holds", ["lifted_at"], postgresql_where=over)
