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


GLOBAL = {
    "users": "SELECT, INSERT, UPDATE",
    "one_time_tokens": "SELECT, INSERT, UPDATE",
    "recovery_codes": "SELECT, INSERT, UPDATE, DELETE",
    "external_identities": "SELECT, INSERT, UPDATE, DELETE",
    "legal_holds": "SELECT",
}


def upgrade() -> None:
    bind = op.get_bind()
    Base.metadata.create_all(bind)
    for mapper in Base.registry.mappers:
        table = mapper.local_table
        if isinstance(table, sa.Table) and issubclass(mapper.class_, TenantScoped):
            ddl.tenant_table(table.name)
    for name, rights in GLOBAL.items():
        ddl.global_table(name, {"ballast_app": rights, "ballast_maintenance": "SELECT, INSERT, UPDATE, DELETE"})
    op.execute("GRANT SELECT ON alembic_version TO ballast_app, ballast_maintenance")
    for file in sorted(SQL.glob("*.sql")):
        ddl.run_script(file.read_text())
