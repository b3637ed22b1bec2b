"""The lists of staff walk their keys, and who is staff is found by an index: no reading of whole tables.

Phase: expand (pre). Follows 2026_11_23_pre_settled_bodies.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations import ddl

revision = "2026_11_23_pre_staff_walks"
down_revision = "2026_11_23_pre_settled_bodies"
branch_labels = None
depends_on = None

TABLES = (
    "api_keys", "audit_log", "billing_subscriptions", "files", "imports", "memberships", "organizations", "sources",
    "webhook_endpoints",
)  # fmt: skip


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name in TABLES:
            ddl.staff_walks(name)
        ddl.index_beside("ix_users_staff", "users", ["id"], postgresql_where=sa.text("is_staff"))
