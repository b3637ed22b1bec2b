"""What the scanner found is looked for by its organization or its file.

Phase: expand (pre).
"""

from __future__ import annotations

from alembic import op

from migrations import ddl

revision = "2026_11_23_pre_find_findings"
down_revision = "2026_11_23_pre_confirmed_holds"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        ddl.index_beside("ix_file_findings_file_id", "file_findings", ["file_id"])
        ddl.index_beside("ix_file_findings_organization_id_id", "file_findings", ["organization_id", "id"])
