"""Break-glass: emergency rights, what was done under them, and who looked into it.

Phase: expand (pre). Follows 2026_11_23_pre_data_exports.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations import ddl

revision = "2026_11_23_pre_break_glass"
down_revision = "2026_11_23_pre_data_exports"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "break_glass_grants",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("opened_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("ends_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("closed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("code_used_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("reviewed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("reviewed_by", sa.Uuid(), nullable=True),
        sa.Column("review", sa.String(length=500), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["reviewed_by"], ["users.id"], name=op.f("fk_break_glass_grants_reviewed_by"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_break_glass_grants_user_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_break_glass_grants")),
    )
    op.create_index("ix_break_glass_grants_opened_at", "break_glass_grants", ["opened_at"], unique=False)
    op.create_index("ix_break_glass_grants_reviewed_by", "break_glass_grants", ["reviewed_by"], unique=False)
    op.create_index("ix_break_glass_grants_user_id", "break_glass_grants", ["user_id"], unique=False)
    op.add_column("support_visits", sa.Column("emergency", sa.Boolean(), server_default="false", nullable=False))
    op.add_column("users", sa.Column("staff_until", sa.TIMESTAMP(timezone=True), nullable=True))
    op.add_column("users", sa.Column("emergency_until", sa.TIMESTAMP(timezone=True), nullable=True))
    ddl.global_table(
        "break_glass_grants", {"ballast_app": "SELECT, INSERT, UPDATE", "ballast_maintenance": "SELECT, DELETE"}
    )
