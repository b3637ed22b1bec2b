"""Nobody reviews the emergency rights that they had themselves, whoever writes the row.

Phase: expand (pre). Follows 2026_11_23_pre_audit_ages.
"""

from __future__ import annotations

from alembic import op

revision = "2026_11_23_pre_grant_four_eyes"
down_revision = "2026_11_23_pre_audit_ages"
branch_labels = None
depends_on = None


def upgrade() -> None:
    name = op.f("ck_break_glass_grants_four_eyes")
    op.create_check_constraint(name, "break_glass_grants", "reviewed_by <> user_id", postgresql_not_valid=True)
