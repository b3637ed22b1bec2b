"""Mail: what became of each, and the addresses that it must not go to.

Phase: expand (pre). Follows 2026_11_23_pre_add_imports.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations import ddl

revision = "2026_11_23_pre_mail_records"
down_revision = "2026_11_23_pre_add_imports"
branch_labels = None
depends_on = None

RIGHTS = {ddl.APP: "SELECT, INSERT, UPDATE", ddl.MAINTENANCE: "SELECT, DELETE"}


def upgrade() -> None:
    op.create_table(
        "mail_suppressions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("address_hash", sa.LargeBinary(), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("seen_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("lifted_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mail_suppressions")),
        sa.UniqueConstraint("address_hash", "cause", name=op.f("uq_mail_suppressions_address_hash_cause")),
    )
    op.create_index(
        "ix_mail_suppressions_newest", "mail_suppressions", ["id"], postgresql_where=sa.text("lifted_at IS NULL")
    )
    op.create_index("ix_mail_suppressions_seen_at", "mail_suppressions", ["seen_at"])
    op.create_table(
        "sent_mails",
        sa.Column("reference", sa.String(length=255), nullable=False),
        sa.Column("template", sa.String(length=80), nullable=False),
        sa.Column("address_hash", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_tried_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("tried_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("accepted_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_sent_mails")),
    )
    op.create_index(
        "ix_sent_mails_accepted_at",
        "sent_mails",
        ["accepted_at"],
        postgresql_where=sa.text("accepted_at IS NOT NULL"),
    )
    op.create_index("ix_sent_mails_first_tried_at", "sent_mails", ["first_tried_at"])
    op.create_index(
        "ix_sent_mails_late",
        "sent_mails",
        ["first_tried_at"],
        postgresql_where=sa.text("state IN ('trying', 'waiting')"),
    )
    for name in ("mail_suppressions", "sent_mails"):
        ddl.global_table(name, RIGHTS)
