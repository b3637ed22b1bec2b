"""Consents, objections and restrictions; and the news that depends on a consent.

Phase: expand (pre). Follows 2026_11_23_pre_find_a_person.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations import ddl

revision = "2026_11_23_pre_consents"
down_revision = "2026_11_23_pre_find_a_person"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "news",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.String(length=100), nullable=False),
        sa.Column("text", sa.String(length=2000), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_news")),
    )
    op.create_index("ix_news_created_at", "news", ["created_at", "id"], unique=False)
    op.create_table(
        "consents",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("purpose", sa.String(length=40), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("given", sa.Boolean(), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_consents_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consents")),
    )
    op.create_index("ix_consents_newest", "consents", ["user_id", "purpose", "id"], unique=False)
    op.create_table(
        "processing_limits",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("purpose", sa.String(length=40), nullable=False),
        sa.Column("reason", sa.String(length=300), nullable=False),
        sa.Column("placed_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("placed_by", sa.Uuid(), nullable=True),
        sa.Column("lifting_asked_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("lifts_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_processing_limits_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_processing_limits")),
    )
    op.create_index("ix_processing_limits_placed", "processing_limits", ["purpose", "id"], unique=False)
    op.create_index("ix_processing_limits_user_id", "processing_limits", ["user_id", "purpose"], unique=False)
    op.create_index(
        "uq_processing_limits_open",
        "processing_limits",
        ["user_id", "purpose"],
        unique=True,
        postgresql_where=sa.text("lifts_at IS NULL"),
    )
    # Only ever added to: what somebody agreed to is proved by lines that nobody can change.
    ddl.global_table("consents", {ddl.APP: "SELECT, INSERT", ddl.MAINTENANCE: "SELECT, DELETE"})
    ddl.global_table("processing_limits", {ddl.APP: "SELECT, INSERT, UPDATE", ddl.MAINTENANCE: "SELECT, DELETE"})
    ddl.global_table("news", {ddl.APP: "SELECT, INSERT", ddl.MAINTENANCE: "SELECT, DELETE"})
