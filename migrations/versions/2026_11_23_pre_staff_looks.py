"""Staff find an API key by its beginning, and see when each periodic job ran last.

Phase: expand (pre). Follows 2026_11_23_pre_staff_acts.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations import ddl

revision = "2026_11_23_pre_staff_looks"
down_revision = "2026_11_23_pre_staff_acts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "periodic_runs",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("ran_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("milliseconds", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_periodic_runs")),
        if_not_exists=True,
    )
    rights = "SELECT, INSERT, UPDATE"
    ddl.global_table("periodic_runs", {"ballast_app": rights, "ballast_maintenance": rights})
    with op.get_context().autocommit_block():
        ddl.index_beside("ix_api_keys_prefix", "api_keys", ["prefix"])
