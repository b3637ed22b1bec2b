"""The addresses that were somebody's before, sealed: an erasure finds by them what others still have under them.

Phase: expand (pre). Follows 2026_11_23_pre_grant_eyes_held.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations import ddl

revision = "2026_11_23_pre_former_addresses"
down_revision = "2026_11_23_pre_grant_eyes_held"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "former_addresses",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.LargeBinary(), nullable=False),
        sa.Column("until", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_former_addresses_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_former_addresses")),
    )
    op.create_index(
        "ix_former_addresses_email_key",
        "former_addresses",
        [sa.literal_column("substr(email, 1, 2)")],
        unique=False,
        postgresql_where=sa.text("email IS NOT NULL"),
    )
    op.create_index(op.f("ix_former_addresses_user_id"), "former_addresses", ["user_id"], unique=False)
    ddl.global_table(
        "former_addresses", {"ballast_app": "SELECT, INSERT", "ballast_maintenance": "SELECT, UPDATE, DELETE"}
    )
