"""Drop the policy that let staff seek organizations by a setting of its own: `organizations_staff` shows them all.

Phase: contract (post).
"""

from __future__ import annotations

from alembic import op

revision = "2026_11_24_post_seek_as_staff"
down_revision = "2026_11_23_pre_find_findings"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DROP POLICY IF EXISTS organizations_sought ON organizations")
