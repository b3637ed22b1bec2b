"""Sources: what feeds indicators by itself, how far each feed has come, and every asking.

Phase: expand (pre). Follows 2026_11_23_pre_api_keys.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import ddl

revision = "2026_11_23_pre_sources"
down_revision = "2026_11_23_pre_api_keys"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_tables()
    for name in ("sources", "source_feeds", "source_runs"):
        ddl.tenant_table(name)
    op.add_column("indicators", sa.Column("source_id", sa.Uuid(), nullable=True))
    op.add_column("indicators", sa.Column("as_of", sa.TIMESTAMP(timezone=True), nullable=True))
    op.add_column("indicators", sa.Column("stale_because", sa.String(length=300), server_default="", nullable=False))


def create_tables() -> None:
    op.create_table(
        "sources",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("config", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("paused_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("next_pull_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("lease_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("rest_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("trouble", sa.String(length=300), server_default="", nullable=False),
        sa.Column("etag", sa.String(length=200), server_default="", nullable=False),
        sa.Column("tried_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("ok_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("deleted_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("deleted_by", sa.Uuid(), nullable=True),
        sa.Column("deletion_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name=op.f("fk_sources_created_by"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_sources_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sources")),
        sa.UniqueConstraint("organization_id", "id", name=op.f("uq_sources_organization_id_id")),
    )
    op.create_index(op.f("ix_sources_created_by"), "sources", ["created_by"], unique=False)
    op.create_index(
        "ix_sources_due",
        "sources",
        ["next_pull_at"],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL AND paused_at IS NULL"),
    )
    op.create_index(
        op.f("ix_sources_organization_id_deleted_at_id"),
        "sources",
        ["organization_id", "deleted_at", "id"],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_index(
        "uq_sources_live_target",
        "sources",
        ["organization_id", "kind", sa.literal_column("lower(target)")],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "source_feeds",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("series", sa.String(length=32), nullable=False),
        sa.Column("indicator_id", sa.Uuid(), nullable=False),
        sa.Column("last_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_value", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id", "indicator_id"],
            ["indicators.organization_id", "indicators.id"],
            name=op.f("fk_source_feeds_organization_id_indicator_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "source_id"],
            ["sources.organization_id", "sources.id"],
            name=op.f("fk_source_feeds_organization_id_source_id"),
        ),
        sa.PrimaryKeyConstraint("organization_id", "source_id", "series", name=op.f("pk_source_feeds")),
    )
    op.create_index(
        "ix_source_feeds_organization_id_indicator_id",
        "source_feeds",
        ["organization_id", "indicator_id"],
        unique=False,
    )
    op.create_table(
        "source_runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("added", sa.Integer(), nullable=False),
        sa.Column("took_ms", sa.Integer(), nullable=False),
        sa.Column("detail", sa.String(length=300), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "source_id"],
            ["sources.organization_id", "sources.id"],
            name=op.f("fk_source_runs_organization_id_source_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_source_runs_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_runs")),
    )
    op.create_index(op.f("ix_source_runs_at"), "source_runs", ["at"], unique=False)
    op.create_index(
        "ix_source_runs_organization_id_source_id_id",
        "source_runs",
        ["organization_id", "source_id", "id"],
        unique=False,
    )
