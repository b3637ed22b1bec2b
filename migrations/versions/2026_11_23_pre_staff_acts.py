"""Staff lock accounts, and place legal holds.

Phase: expand (pre). Follows 2026_11_23_pre_erasures.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_23_pre_staff_acts"
down_revision = "2026_11_23_pre_erasures"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("locked_at", sa.TIMESTAMP(timezone=True), nullable=True), if_not_exists=True)
    op.execute("GRANT INSERT, UPDATE ON legal_holds TO ballast_app")
