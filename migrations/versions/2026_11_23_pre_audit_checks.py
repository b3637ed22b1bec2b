"""What the daily look at the audit log found.

Phase: expand (pre).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations import ddl

revision = "2026_11_23_pre_audit_checks"
down_revision = "2026_11_23_pre_feature_flags"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_checks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("checked_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("sealed_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("segments", sa.BigInteger(), nullable=True),
        sa.Column("rows", sa.BigInteger(), nullable=True),
        sa.Column("problems", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_checks")),
    )
    op.create_index("ix_audit_checks_checked_at", "audit_checks", ["checked_at"], unique=False)
    ddl.global_table("audit_checks", {ddl.APP: "SELECT", ddl.MAINTENANCE: "SELECT, INSERT, UPDATE, DELETE"})
