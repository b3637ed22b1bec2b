"""Files: what people keep, what the scanner found, and which objects the store must give up.

Phase: expand (pre). Follows 2026_11_23_pre_mail_records.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

from migrations import ddl

SQL = Path(__file__).parents[1] / "sql"

revision = "2026_11_23_pre_files"
down_revision = "2026_11_23_pre_mail_records"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "file_findings",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("signature", sa.String(length=200), nullable=False),
        sa.Column("found_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_file_findings")),
    )
    op.create_index(op.f("ix_file_findings_found_at"), "file_findings", ["found_at"], unique=False)
    op.create_table(
        "file_removals",
        sa.Column("key", sa.String(length=80), nullable=False),
        sa.Column("asked_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_file_removals")),
    )
    op.create_index(op.f("ix_file_removals_asked_at"), "file_removals", ["asked_at"], unique=False)
    op.create_table(
        "files",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("key", sa.String(length=80), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "receiving",
                "abandoned",
                "pending",
                "clean",
                "rejected",
                "quarantined",
                "lost",
                name="state",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("finding", sa.String(length=16), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("next_look_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("checked_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("deleted_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("deleted_by", sa.Uuid(), nullable=True),
        sa.Column("deletion_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name=op.f("fk_files_created_by"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_files_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_files")),
        sa.UniqueConstraint("organization_id", "id", name=op.f("uq_files_organization_id_id")),
    )
    op.create_index(
        "ix_files_clean", "files", ["checked_at"], unique=False, postgresql_where=sa.text("state = 'clean'")
    )
    op.create_index(op.f("ix_files_created_by"), "files", ["created_by"], unique=False)
    op.create_index(
        "ix_files_due", "files", ["next_look_at"], unique=False, postgresql_where=sa.text("state = 'pending'")
    )
    op.create_index(
        "ix_files_half",
        "files",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('receiving', 'abandoned')"),
    )
    op.create_index("ix_files_key", "files", ["key"], unique=False, postgresql_where=sa.text("key <> ''"))
    op.create_index(
        op.f("ix_files_organization_id_deleted_at_id"),
        "files",
        ["organization_id", "deleted_at", "id"],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    ddl.tenant_table("files")
    ddl.global_table("file_findings", {ddl.APP: "SELECT, INSERT", ddl.MAINTENANCE: "SELECT, DELETE"})
    ddl.global_table("file_removals", {ddl.APP: "INSERT", ddl.MAINTENANCE: "SELECT, INSERT, DELETE"})
    ddl.run_script((SQL / "files.sql").read_text())
