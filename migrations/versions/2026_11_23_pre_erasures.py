"""Requests to be erased, their steps, and the rights that the walk over all tables needs.

Phase: expand (pre). Follows 2026_11_23_pre_audit_checks.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import ddl

revision = "2026_11_23_pre_erasures"
down_revision = "2026_11_23_pre_audit_checks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "erasure_requests",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=300), nullable=False),
        sa.Column("requested_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("requested_by", sa.Uuid(), nullable=True),
        sa.Column("verified_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("verified_by", sa.Uuid(), nullable=True),
        sa.Column("due_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("began_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("finished_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("held", sa.String(length=300), server_default="", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("leased_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(finished_at IS NULL) = (state IN ('requested', 'waiting', 'executing'))",
            name=op.f("ck_erasure_requests_finished"),
        ),
        sa.CheckConstraint(
            "verified_by <> requested_by OR source <> 'staff'", name=op.f("ck_erasure_requests_four_eyes")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasure_requests")),
    )
    op.create_index(
        "ix_erasure_requests_due",
        "erasure_requests",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index("ix_erasure_requests_finished_at", "erasure_requests", ["finished_at"], unique=False)
    op.create_index("ix_erasure_requests_user_id", "erasure_requests", ["user_id", "id"], unique=False)
    op.create_index(
        "uq_erasure_requests_open",
        "erasure_requests",
        ["user_id"],
        unique=True,
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "erasure_steps",
        sa.Column("request_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("done_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("evidence", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(["request_id"], ["erasure_requests.id"], name=op.f("fk_erasure_steps_request_id")),
        sa.PrimaryKeyConstraint("request_id", "name", name=op.f("pk_erasure_steps")),
    )
    ddl.global_table("erasure_requests", {ddl.APP: "SELECT, INSERT, UPDATE", ddl.MAINTENANCE: "SELECT, UPDATE, DELETE"})
    ddl.global_table("erasure_steps", {ddl.APP: "SELECT, INSERT, DELETE", ddl.MAINTENANCE: "SELECT, DELETE"})
    # What an erasure empties in a row that stays.
    op.execute(f"GRANT UPDATE (body) ON inbox TO {ddl.MAINTENANCE}")
    op.execute(f"GRANT UPDATE (email) ON mail_suppressions TO {ddl.MAINTENANCE}")
