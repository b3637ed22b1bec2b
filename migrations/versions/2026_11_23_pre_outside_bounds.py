"""Which endpoints answer slowly, and the sources that are due kind by kind.

Phase: expand (pre). Follows 2026_11_23_pre_removals_later.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_23_pre_outside_bounds"
down_revision = "2026_11_23_pre_removals_later"
branch_labels = None
depends_on = None


def upgrade() -> None:
    slow = sa.Column("slow", sa.Boolean(), server_default=sa.false(), nullable=False)
    op.add_column("webhook_endpoints", slow, if_not_exists=True)
    # Beside the traffic: a plain CREATE INDEX lets nobody write to the table meanwhile.
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_sources_due_kind",
            "sources",
            ["kind", "next_pull_at"],
            postgresql_where=sa.text("deleted_at IS NULL AND paused_at IS NULL"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
