"""Staff find an API key by its beginning.

Phase: expand (pre). Follows 2026_11_23_pre_feature_flags.
"""

from __future__ import annotations

from alembic import op

revision = "2026_11_23_pre_key_prefixes"
down_revision = "2026_11_23_pre_feature_flags"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Beside the traffic: a plain CREATE INDEX lets nobody write to the table meanwhile.
    with op.get_context().autocommit_block():
        op.create_index("ix_api_keys_prefix", "api_keys", ["prefix"], postgresql_concurrently=True, if_not_exists=True)
