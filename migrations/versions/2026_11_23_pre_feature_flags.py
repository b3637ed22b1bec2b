"""Feature flags: which organizations were turned, and staff may see all of them.

Phase: expand (pre). Follows 2026_11_23_pre_staff_reads.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations import ddl

revision = "2026_11_23_pre_feature_flags"
down_revision = "2026_11_23_pre_staff_reads"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "organization_flags",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("is_on", sa.Boolean(), nullable=False),
        sa.Column("changed_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("changed_by", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_organization_flags_organization_id")
        ),
        sa.PrimaryKeyConstraint("organization_id", "name", name=op.f("pk_organization_flags")),
    )
    ddl.tenant_table("organization_flags", delete=True)
    op.execute("""
        CREATE POLICY organization_flags_of_all ON organization_flags FOR SELECT TO ballast_app USING (
            (SELECT is_staff FROM users WHERE id = nullif(current_setting('app.user', true), '')::uuid)
        )
    """)
