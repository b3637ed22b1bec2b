"""What was reviewed before is held against the rule of the migration before, beside the traffic.

Phase: expand (pre). Follows 2026_11_23_pre_grant_four_eyes.
"""

from __future__ import annotations

from alembic import op

revision = "2026_11_23_pre_grant_eyes_held"
down_revision = "2026_11_23_pre_grant_four_eyes"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE break_glass_grants VALIDATE CONSTRAINT ck_break_glass_grants_four_eyes")
