"""At most one open legal hold on each person and organization: lifting the one they see leaves none behind.

Phase: expand (pre).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations import ddl

revision = "2026_11_23_pre_one_hold"
down_revision = "2026_11_23_pre_former_addresses"
branch_labels = None
depends_on = None

# The oldest stays, as the one that staff have seen; it held all that the later ones held.
LIFT_DOUBLES = """
    UPDATE legal_holds SET lifted_at = now() WHERE lifted_at IS NULL AND EXISTS (
        SELECT FROM legal_holds AS older WHERE older.subject_id = legal_holds.subject_id AND older.lifted_at IS NULL
        AND (older.placed_at, older.id) < (legal_holds.placed_at, legal_holds.id)
    )
"""


def upgrade() -> None:
    op.execute(LIFT_DOUBLES)
    with op.get_context().autocommit_block():
        ddl.index_beside(
            "ix_legal_holds_open",
            "legal_holds",
            ["subject_id"],
            unique=True,
            postgresql_where=sa.text("lifted_at IS NULL"),
        )
