"""A key whose object the store refuses to remove moves to the end of the queue, so that it keeps no other one.

Phase: expand (pre). Follows 2026_11_23_pre_key_holders.
"""

from __future__ import annotations

from alembic import op

revision = "2026_11_23_pre_removals_later"
down_revision = "2026_11_23_pre_key_holders"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("GRANT UPDATE (asked_at) ON file_removals TO ballast_maintenance")
