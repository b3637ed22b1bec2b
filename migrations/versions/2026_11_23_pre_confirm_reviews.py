"""When a shell noted a review: that counts once the colleague has confirmed it, and so later, whoever writes the row.

Phase: expand (pre). Follows 2026_11_23_pre_one_hold.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_23_pre_confirm_reviews"
down_revision = "2026_11_23_pre_one_hold"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("break_glass_grants", sa.Column("recorded_at", sa.TIMESTAMP(timezone=True), nullable=True))
    name = op.f("ck_break_glass_grants_confirmed")
    op.create_check_constraint(name, "break_glass_grants", "reviewed_at > recorded_at", postgresql_not_valid=True)
