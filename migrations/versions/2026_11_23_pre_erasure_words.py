"""What staff wrote about whoever asked to be erased can be emptied.

Phase: expand (pre). Follows 2026_11_23_pre_break_glass.
"""

from __future__ import annotations

from alembic import op

revision = "2026_11_23_pre_erasure_words"
down_revision = "2026_11_23_pre_break_glass"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("reason", "held"):
        # The code before this one reads no `reason`, and `held` only becomes NULL where somebody is erased.
        op.execute(
            f"-- squawk-ignore ban-drop-not-null\nALTER TABLE erasure_requests ALTER COLUMN {name} DROP NOT NULL"
        )
    op.execute("UPDATE erasure_requests SET reason = NULL WHERE finished_at IS NOT NULL")
