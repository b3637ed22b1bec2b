"""Visits of support to customers' accounts, and whether an organization lets them in.

Phase: expand (pre). Follows 2026_11_23_pre_region_stays.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations import ddl

revision = "2026_11_23_pre_support_visits"
down_revision = "2026_11_23_pre_region_stays"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "support_visits",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("person_id", sa.Uuid(), nullable=True),
        sa.Column("staff_id", sa.Uuid(), nullable=True),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("began_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("ends_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_support_visits_organization_id")
        ),
        sa.ForeignKeyConstraint(
            ["person_id"], ["users.id"], name=op.f("fk_support_visits_person_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["staff_id"], ["users.id"], name=op.f("fk_support_visits_staff_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_support_visits")),
    )
    op.create_index("ix_support_visits_ends_at", "support_visits", ["ends_at"], unique=False)
    op.create_index("ix_support_visits_organization_id_id", "support_visits", ["organization_id", "id"], unique=False)
    op.create_index("ix_support_visits_person_id", "support_visits", ["person_id"], unique=False)
    op.create_index("ix_support_visits_staff_id", "support_visits", ["staff_id"], unique=False)
    op.add_column("organizations", sa.Column("support_access", sa.Boolean(), server_default="true", nullable=False))
    ddl.tenant_table("support_visits")
