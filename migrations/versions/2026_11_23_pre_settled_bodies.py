"""A message that is dealt with keeps no copy of what it said.

Phase: expand (pre).
"""

from __future__ import annotations

from alembic import op

revision = "2026_11_23_pre_settled_bodies"
down_revision = "2026_11_23_pre_erasure_words"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Whoever settles a message, today or in a feature to come: what was in it does not outlive that. What was settled
    # before is emptied by the nightly job (guardrails.inbox.forget_bodies): no long update while we migrate.
    op.execute("""
        CREATE FUNCTION forget_settled_body() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.body := NULL;
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER inbox_forget_settled BEFORE INSERT OR UPDATE OF state, body ON inbox
            FOR EACH ROW WHEN (NEW.state IN ('processed', 'ignored') AND NEW.body IS NOT NULL)
            EXECUTE FUNCTION forget_settled_body()
    """)
