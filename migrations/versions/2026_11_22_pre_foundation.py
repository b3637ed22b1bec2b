"""foundation

Phase: expand (pre). Follows nothing.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

from migrations import ddl
from service.core.database import Base
from service.guardrails.tenancy import TenantScoped

revision = "2026_11_22_pre_foundation"
down_revision = None
branch_labels = None
depends_on = None

SQL = Path(__file__).resolve().parents[1] / "sql"


def upgrade() -> None:
    bind = op.get_bind()
    Base.metadata.create_all(bind)
    for mapper in Base.registry.mappers:
        table = mapper.local_table
        if not isinstance(table, sa.Table):
            continue
        if issubclass(mapper.class_, TenantScoped):
            ddl.tenant_table(table.name)
    for file in sorted(SQL.glob("*.sql")):
        ddl.run_script(file.read_text())
