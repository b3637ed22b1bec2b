"""What the staff panel looks at, across organizations: policies, the name organizations are found by, indexes.

Phase: expand (pre). Follows 2026_11_23_pre_support_visits.
"""

from __future__ import annotations

from alembic import op

from migrations import ddl

revision = "2026_11_23_pre_staff_reads"
down_revision = "2026_11_23_pre_support_visits"
branch_labels = None
depends_on = None

TABLES = (
    "api_keys", "audit_log", "billing_subscriptions", "files", "imports", "memberships", "organizations", "sources",
    "webhook_endpoints",
)  # fmt: skip
INDEXES = {
    "ix_audit_log_object_id_id": ("audit_log", ["object_id", "id"]),
    "ix_organizations_search_name": ("organizations", ["search_name", "id"]),
}


def upgrade() -> None:
    for name in TABLES:
        ddl.staff_reads(name)
    # Rewrites the table: a row for each customer, so thousands at most, in well under the time limit of its lock.
    op.execute(
        "-- squawk-ignore adding-field-with-default\n"
        'ALTER TABLE organizations ADD COLUMN IF NOT EXISTS search_name varchar(240) COLLATE "C" '
        "GENERATED ALWAYS AS (lower(name)) STORED NOT NULL"
    )
    with op.get_context().autocommit_block():
        for index, (table, columns) in INDEXES.items():
            ddl.index_beside(index, table, columns)
