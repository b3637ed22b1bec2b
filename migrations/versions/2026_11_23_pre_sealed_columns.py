"""Sealed columns: find values by their key, let the worker bring them under another one, note which keys are needed.

Phase: expand (pre). Follows 2026_11_23_post_sources_due.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import ddl

revision = "2026_11_23_pre_sealed_columns"
down_revision = "2026_11_23_post_sources_due"
branch_labels = None
depends_on = None

SEALED = (
    ("users", "totp_secret"),
    ("sources", "sealed_key"),
    ("webhook_endpoints", "secret"),
    ("webhook_endpoints", "old_secret"),
    ("idempotency_keys", "answer"),
    ("inbox", "body"),
)


def upgrade() -> None:
    op.create_table(
        "encryption_keys",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("fingerprint", sa.String(length=16), nullable=False),
        sa.Column("needed_by", postgresql.ARRAY(sa.String(length=130)), nullable=False),
        sa.Column("seen_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_encryption_keys")),
        if_not_exists=True,
    )
    rights = {"ballast_app": "SELECT", "ballast_maintenance": "SELECT, INSERT, UPDATE, DELETE"}
    ddl.global_table("encryption_keys", rights)
    for table, column in SEALED:
        op.execute(f"GRANT UPDATE ({column}) ON {table} TO ballast_maintenance")
    with op.get_context().autocommit_block():
        for table, column in SEALED:
            ddl.index_beside(
                f"ix_{table}_{column}_key",
                table,
                [sa.text(f"substr({column}, 1, 2)")],
                unique=False,
                postgresql_where=sa.text(f"{column} IS NOT NULL"),
            )
