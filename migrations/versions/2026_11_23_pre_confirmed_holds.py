"""The rule of the migration before, held against every row, beside the traffic.

Phase: expand (pre). Follows 2026_11_23_pre_confirm_reviews.
"""

from __future__ import annotations

from alembic import op

revision = "2026_11_23_pre_confirmed_holds"
down_revision = "2026_11_23_pre_confirm_reviews"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE break_glass_grants VALIDATE CONSTRAINT ck_break_glass_grants_confirmed")
