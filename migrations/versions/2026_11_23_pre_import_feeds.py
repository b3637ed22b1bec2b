"""Which indicators an import has added readings to.

Phase: expand (pre). Follows 2026_11_23_pre_files.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "2026_11_23_pre_import_feeds"
down_revision = "2026_11_23_pre_files"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("imports", sa.Column("fed", postgresql.ARRAY(sa.Uuid()), server_default="{}", nullable=False))
