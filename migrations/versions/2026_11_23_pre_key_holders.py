"""Who was shown the secret that an API key had before it was renewed.

Phase: expand (pre). Follows 2026_11_23_pre_import_feeds.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_23_pre_key_holders"
down_revision = "2026_11_23_pre_import_feeds"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("previous_by", sa.Uuid(), nullable=True), if_not_exists=True)
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_api_keys_previous_by", "api_keys", ["previous_by"], postgresql_concurrently=True, if_not_exists=True
        )
