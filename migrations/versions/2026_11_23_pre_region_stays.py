"""An organization's region never changes: its files lie there, and what was read once may be believed.

Phase: expand (pre).
"""

from __future__ import annotations

from alembic import op

revision = "2026_11_23_pre_region_stays"
down_revision = "2026_11_23_pre_dead_letters"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE FUNCTION keep_region() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'the region of an organization never changes: its files lie there';
        END $$
    """)
    op.execute("""
        CREATE TRIGGER organizations_keep_region BEFORE UPDATE OF region ON organizations
            FOR EACH ROW WHEN (OLD.region IS DISTINCT FROM NEW.region) EXECUTE FUNCTION keep_region()
    """)
