"""Copies of their data that people and organizations ask for.

Phase: expand (pre). Follows 2026_11_23_pre_staff_looks.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import ddl

revision = "2026_11_23_pre_data_exports"
down_revision = "2026_11_23_pre_staff_looks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "data_exports",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=True),
        sa.Column(
            "scope",
            sa.Enum("person", "organization", name="scope", native_enum=False, create_constraint=True, length=16),
            nullable=False,
        ),
        sa.Column(
            "state",
            sa.Enum(
                "waiting",
                "building",
                "ready",
                "failed",
                "expired",
                name="state",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("asked_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(length=120), nullable=False),
        sa.Column("missing", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("remark", sa.Text(), nullable=False),
        sa.Column("ready_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("claim", sa.Uuid(), nullable=True),
        sa.Column("leased_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_data_exports_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_exports")),
    )
    op.create_index("ix_data_exports_asked_at", "data_exports", ["asked_at"], unique=False)
    op.create_index(
        "ix_data_exports_due",
        "data_exports",
        ["asked_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('waiting', 'building')"),
    )
    op.create_index("ix_data_exports_key", "data_exports", ["key"], unique=False, postgresql_where=sa.text("key <> ''"))
    op.create_index("ix_data_exports_mine", "data_exports", ["user_id", "asked_at", "id"], unique=False)
    op.create_index(
        "ix_data_exports_ready",
        "data_exports",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("state = 'ready'"),
    )
    op.create_index(
        "uq_data_exports_organization",
        "data_exports",
        ["organization_id"],
        unique=True,
        postgresql_where=sa.text("scope = 'organization' AND state IN ('waiting', 'building')"),
    )
    op.create_index(
        "uq_data_exports_person",
        "data_exports",
        ["user_id"],
        unique=True,
        postgresql_where=sa.text("scope = 'person' AND state IN ('waiting', 'building')"),
    )
    ddl.global_table("data_exports", {ddl.APP: "SELECT, INSERT, UPDATE", ddl.MAINTENANCE: "SELECT, UPDATE, DELETE"})
