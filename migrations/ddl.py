"""What a migration says about a new table beyond its columns: who sees which rows, and who may do what.

Frozen: migrations that have run somewhere call these functions, so what they do never changes. A new rule is a new
function and a new migration that calls it. Nothing here imports the service, for the same reason.

    op.create_table("notes", ..., ddl.tenant_key("notes"), ddl.tenant_reference("notes", "box_id", "boxes"))
    ddl.tenant_table("notes")
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from alembic import context, op
from sqlalchemy import ForeignKeyConstraint, UniqueConstraint, text

APP, MAINTENANCE = "ballast_app", "ballast_maintenance"
TENANT = "nullif(current_setting('app.tenant', true), '')::uuid"
"""Unset means NULL, and NULL equals nothing: no tenant, no rows. After a transaction the setting is '', not NULL."""


def tenant_table(name: str, *, delete: bool = False) -> None:
    """Rows belong to `organization_id`: forced row-level security, and the rights of both roles.

    The application reads, inserts and updates; it deletes only where asked, because people want things back. The
    maintenance role sees all organizations, to purge. The owner sees nothing while the policies are forced: a
    migration that must move data runs as the maintenance role or inside the application.
    """
    _policies(name, f"organization_id = {TENANT}")
    _grant(name, APP, "SELECT, INSERT, UPDATE" + (", DELETE" if delete else ""))
    _grant(name, MAINTENANCE, "SELECT, DELETE")


def staff_reads(name: str) -> None:
    """Staff may read all organizations' rows: in a transaction that says it is theirs, as a person who is staff.

    Go on with `staff_walks`, or each list of staff sorts the whole table.
    """
    person = "SELECT is_staff FROM users WHERE id = nullif(current_setting('app.user', true), '')::uuid"
    condition = f"current_setting('app.staff', true) = 'on' AND ({person})"
    policy(f"{name}_staff", name, f"FOR SELECT TO {APP} USING ({condition})")


def staff_walks(name: str) -> None:
    """The same, asked once per statement and not by row: a list of staff walks its key.

    As a plain condition the planner took it for true of one row in two hundred, so that fifty rows looked like the end
    of a long search, and reading and sorting everything like the shorter way. For a table that people work with, say it
    inside an autocommit block: each is locked by itself, and only for a moment.
    """
    person = "SELECT is_staff FROM users WHERE id = nullif(current_setting('app.user', true), '')::uuid"
    condition = f"(SELECT current_setting('app.staff', true) = 'on' AND ({person}))"
    op.execute(f"ALTER POLICY {name}_staff ON {name} USING ({condition})")


def policy(name: str, table: str, says: str) -> None:
    """A policy by itself, in place of one that a first try left: what stands before an autocommit block stays."""
    op.execute(f"DROP POLICY IF EXISTS {name} ON {table}")
    op.execute(f"CREATE POLICY {name} ON {table} {says}")


def index_beside(name: str, table: str, columns: list[Any], **more: Any) -> None:
    """An index built beside the traffic, inside an autocommit block: a plain one lets nobody write meanwhile.

    A build that gave up at a busy lock leaves an invalid index of that name: it would count as being there.
    """
    if not context.is_offline_mode():
        invalid = "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid"
        if op.get_bind().scalar(text(invalid), {"name": name}):
            op.drop_index(name, table, postgresql_concurrently=True, if_exists=True)
    op.create_index(name, table, columns, postgresql_concurrently=True, if_not_exists=True, **more)


def global_table(name: str, grants: dict[str, str]) -> None:
    """A table without a tenant (list it in the architecture tests, with the reason): rights only, by role."""
    for role, rights in grants.items():
        _grant(name, role, rights)


def tenant_key(table: str) -> UniqueConstraint:
    """What other tables refer to: the pair (organization_id, id)."""
    return UniqueConstraint("organization_id", "id", name=f"uq_{table}_organization_id_id")


def tenant_reference(table: str, column: str, parent: str) -> ForeignKeyConstraint:
    """A foreign key that carries the tenant: keys are checked without row-level security, so one that does not would
    accept, and thereby reveal, another organization's row."""
    return ForeignKeyConstraint(
        ["organization_id", column],
        [f"{parent}.organization_id", f"{parent}.id"],
        name=f"fk_{table}_organization_id_{column}",
    )


def run_script(sql: str) -> None:
    """Run a file of statements, function bodies included; SQLAlchemy's asyncpg sends one statement at a time."""
    if context.is_offline_mode():
        op.execute(sql)
        return
    bind = op.get_bind()
    bind.exec_driver_sql("SELECT 1")  # the driver opens its transaction with the first statement that goes through it
    connection: Any = bind.connection.dbapi_connection

    def send(raw: Any) -> Awaitable[Any]:
        sent: Awaitable[Any] = raw.execute(sql)
        return sent

    connection.run_async(send)


def _policies(name: str, condition: str) -> None:
    op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY {name}_tenant ON {name} TO {APP} USING ({condition}) WITH CHECK ({condition})")
    op.execute(f"CREATE POLICY {name}_maintenance ON {name} TO {MAINTENANCE} USING (true) WITH CHECK (true)")


def _grant(name: str, role: str, rights: str) -> None:
    op.execute(f"GRANT {rights} ON {name} TO {role}")
