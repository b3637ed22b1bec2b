"""Remove the index of due sources that does not know their kind: one kind's backlog was read through for the others.

Phase: contract (post). Follows 2026_11_23_pre_outside_bounds.
"""

from __future__ import annotations

from alembic import op

revision = "2026_11_23_post_sources_due"
down_revision = "2026_11_23_pre_outside_bounds"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("ix_sources_due", table_name="sources", postgresql_concurrently=True, if_exists=True)
