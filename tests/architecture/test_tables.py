"""Rules about every table and column, checked against the models and against the migrated database itself."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import asyncpg
import pytest
from sqlalchemy import Column, MetaData, String, Table

from service.core.database import Base
from service.guardrails.personal_data import privacy_of
from service.guardrails.retention import retention_of
from service.guardrails.tenancy import TenantScoped
from tests.architecture.conftest import at_least
from tests.architecture.reviewed import GLOBAL_TABLES, WIDER_POLICIES

Db: TypeAlias = "asyncpg.Connection[Any]"
TENANT_TABLES, FOREIGN_KEYS = 7, 12
TENANT = "current_setting('app.tenant'"
LIBRARY_TABLES = ("pgqueuer", "alembic_version")


def tenant_tables(metadata: MetaData) -> set[str]:
    return {
        mapper.local_table.name
        for mapper in Base.registry.mappers
        if issubclass(mapper.class_, TenantScoped) and isinstance(mapper.local_table, Table)
    }


def test_every_table_is_tenant_scoped_or_listed(metadata: MetaData) -> None:
    loose = set(metadata.tables) - tenant_tables(metadata)
    assert loose == set(GLOBAL_TABLES), (
        f"without a tenant and not listed: {sorted(loose - set(GLOBAL_TABLES))}; listed in vain: "
        f"{sorted(set(GLOBAL_TABLES) - loose)}. Inherit TenantScoped, or add the table with its reason to GLOBAL_TABLES"
    )


def unclassified(metadata: MetaData) -> list[str]:
    return [str(column) for table in metadata.tables.values() for column in table.columns if privacy_of(column) is None]


def test_every_column_says_what_it_holds(metadata: MetaData) -> None:
    columns = sum(len(table.columns) for table in metadata.tables.values())
    assert columns >= 132, f"the scan saw only {columns} columns"
    found = unclassified(metadata)
    assert not found, (
        f"{found}: add info=internal(), content(), personal(...) or secret() (guardrails/personal_data.py)"
    )


def test_every_table_says_how_long_it_is_kept(metadata: MetaData) -> None:
    without = [name for name, table in metadata.tables.items() if retention_of(table) is None]
    assert not without, f"{without}: declare __retention__ on the model (guardrails/retention.py)"


async def catalog_of(superuser: Db) -> dict[str, asyncpg.Record]:
    rows = await superuser.fetch(
        """
        SELECT c.relname AS name, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,
            pg_get_userbyid(c.relowner) AS owner,
            (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid AND p.polqual IS NOT NULL
                AND p.polroles @> ARRAY[(SELECT oid FROM pg_roles WHERE rolname = 'ballast_app')]) AS policies,
            has_table_privilege('ballast_app', c.oid, 'TRUNCATE') AS truncates,
            has_table_privilege('ballast_app', c.oid, 'DELETE') AS deletes
        FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
        """
    )
    found = {row["name"]: row for row in rows if not row["name"].startswith(LIBRARY_TABLES)}
    at_least("tables", len(found))
    return found


@pytest.fixture(scope="session")
async def catalog(superuser: Db) -> dict[str, asyncpg.Record]:
    """What PostgreSQL says of each table, after the migrations ran."""
    return await catalog_of(superuser)


async def test_database_and_models_name_the_same_tables(metadata: MetaData, catalog: dict[str, Any]) -> None:
    assert set(catalog) == set(metadata.tables), (
        f"only in the database: {sorted(set(catalog) - set(metadata.tables))}; only as a model: "
        f"{sorted(set(metadata.tables) - set(catalog))}. Write the migration (`make migration`) or the model"
    )


async def test_every_tenant_table_forces_row_level_security(metadata: MetaData, catalog: dict[str, Any]) -> None:
    tables = tenant_tables(metadata)
    assert len(tables) >= TENANT_TABLES, f"the scan saw only {len(tables)} tables of tenants"
    weak = [
        name
        for name in tables
        if not (catalog[name]["enabled"] and catalog[name]["forced"] and catalog[name]["policies"])
    ]
    assert not weak, f"{weak}: call ddl.tenant_table(name) in the migration that creates the table"


async def test_every_policy_asks_who_is_acting(superuser: Db) -> None:
    """A policy that is always true, or one that checks what is read and not what is written, is no wall."""
    policies = await superuser.fetch(
        """
        SELECT p.polname AS name, p.polcmd::text AS command, coalesce(pg_get_expr(p.polqual, p.polrelid), '') AS reads,
            coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '') AS writes
        FROM pg_policy p
        WHERE p.polroles && ARRAY[0::oid, (SELECT oid FROM pg_roles WHERE rolname = 'ballast_app')]
        """
    )
    assert len(policies) >= 15, f"the scan saw only {len(policies)} policies"
    wider = {row["name"] for row in policies if row["command"] != "a" and TENANT not in row["reads"]}
    assert wider == set(WIDER_POLICIES), (
        f"{sorted(wider ^ set(WIDER_POLICIES))}: compare with current_setting('app.tenant'), as ddl.tenant_table does; "
        "or list the policy with its reason in WIDER_POLICIES in tests/architecture/reviewed.py"
    )
    open_for_writing = [row["name"] for row in policies if row["command"] != "r" and TENANT not in row["writes"]]
    assert not open_for_writing, (
        f"{open_for_writing}: say WITH CHECK (... app.tenant ...), or rows can be written into another organization; "
        "a policy that is wider than the tenant is FOR SELECT only"
    )


async def test_the_application_owns_and_truncates_nothing(catalog: dict[str, Any]) -> None:
    owned = [name for name, row in catalog.items() if row["owner"] != "ballast_owner"]
    truncates = [name for name, row in catalog.items() if row["truncates"]]
    assert not owned, f"{owned}: tables are made by migrations, as ballast_owner"
    assert not truncates, f"{truncates}: TRUNCATE asks no policy and empties all organizations; revoke it"


async def test_soft_deleted_tables_cannot_be_deleted_from(metadata: MetaData, catalog: dict[str, Any]) -> None:
    soft = [name for name, table in metadata.tables.items() if "deleted_at" in table.columns]
    assert len(soft) >= 3, f"the scan saw only {soft}"
    hard = [name for name in soft if catalog[name]["deletes"]]
    assert not hard, f"{hard}: the application marks, only ballast_maintenance purges; revoke DELETE in the migration"


async def test_the_application_role_is_weak(superuser: Db) -> None:
    rows = await superuser.fetch(
        "SELECT rolname FROM pg_roles WHERE rolname LIKE 'ballast_%' AND (rolsuper OR rolbypassrls OR rolcreaterole)"
    )
    assert not rows, f"{[row['rolname'] for row in rows]} can bypass row-level security: the second wall is down"
    makers = await superuser.fetch(
        "SELECT rolname FROM pg_roles WHERE rolname LIKE 'ballast_%' AND rolname <> 'ballast_owner' AND (rolcreatedb"
        " OR has_database_privilege(rolname, current_database(), 'CREATE')"
        " OR has_schema_privilege(rolname, 'public', 'CREATE')"
        " OR pg_has_role(rolname, 'ballast_owner', 'MEMBER')"
        " OR EXISTS (SELECT FROM pg_class WHERE relowner = pg_roles.oid))"
    )
    assert not makers, f"{[row['rolname'] for row in makers]} can change the schema: only migrations do"
    seen = await superuser.fetchval("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'ballast_%'")
    assert seen >= 3, f"the scan saw only {seen} roles"


async def test_every_foreign_key_is_indexed(superuser: Db) -> None:
    """Without an index each delete of a parent scans the child, under lock."""
    keys = await superuser.fetch(
        """
        SELECT k.conrelid::regclass::text AS name, k.conname,
            EXISTS (SELECT FROM pg_index i WHERE i.indrelid = k.conrelid AND i.indpred IS NULL
                AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey) AS indexed
        FROM pg_constraint k WHERE k.contype = 'f' AND k.connamespace = 'public'::regnamespace
        """
    )
    assert len(keys) >= FOREIGN_KEYS, f"the scan saw only {len(keys)} foreign keys"
    bare = [f"{row['name']}.{row['conname']}" for row in keys if not row["indexed"]]
    assert not bare, f"{bare}: add an index that begins with the key's columns"


async def test_every_tenant_table_has_an_index_that_begins_with_the_tenant(metadata: MetaData, superuser: Db) -> None:
    rows = await superuser.fetch(
        """
        SELECT DISTINCT i.indrelid::regclass::text AS name FROM pg_index i
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE a.attname = 'organization_id'
        """
    )
    without = tenant_tables(metadata) - {row["name"] for row in rows}
    assert not without, f"{without}: row-level security filters by organization_id; give it an index that begins so"


async def test_foreign_keys_between_tenant_tables_carry_the_tenant(metadata: MetaData, superuser: Db) -> None:
    """Foreign keys are checked without row-level security: a single-column one accepts another tenant's parent."""
    tables = tenant_tables(metadata)
    rows = await superuser.fetch(
        """
        SELECT k.conrelid::regclass::text AS child, k.confrelid::regclass::text AS parent, k.conname,
            ARRAY(SELECT attname::text FROM pg_attribute
                  WHERE attrelid = k.conrelid AND attnum = ANY(k.conkey)) AS columns
        FROM pg_constraint k WHERE k.contype = 'f' AND k.connamespace = 'public'::regnamespace
        """
    )
    between = [row for row in rows if row["child"] in tables and row["parent"] in tables]
    assert len(between) >= 3, f"the scan saw only {len(between)} foreign keys between tables of tenants"
    loose = [f"{row['child']}.{row['conname']}" for row in between if "organization_id" not in row["columns"]]
    assert not loose, (
        f"{loose}: use ForeignKeyConstraint(['organization_id', 'x_id'], ['parent.organization_id', 'parent.id'])"
    )


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (test_every_table_is_tenant_scoped_or_listed, "not listed: ['probe']"),
        (test_every_column_says_what_it_holds, "['probe.email']: add info="),
        (test_every_table_says_how_long_it_is_kept, "['probe']: declare __retention__"),
    ],
)
def test_each_rule_about_models_bites(rule: Callable[[MetaData], None], sentence: str, metadata: MetaData) -> None:
    probe = MetaData()
    for table in metadata.tables.values():
        table.to_metadata(probe)
    Table("probe", probe, Column("email", String))
    with pytest.raises(AssertionError, match=re.escape(sentence)):
        rule(probe)


@pytest.mark.parametrize(
    ("rule", "damage", "sentence"),
    [
        (test_database_and_models_name_the_same_tables, "CREATE TABLE probe ()", "only in the database: ['probe']"),
        (
            test_every_tenant_table_forces_row_level_security,
            "ALTER TABLE indicators NO FORCE ROW LEVEL SECURITY",
            "['indicators']: call ddl.tenant_table",
        ),
        (
            test_every_tenant_table_forces_row_level_security,
            "DROP POLICY indicators_tenant ON indicators",
            "['indicators']: call ddl.tenant_table",
        ),
        (
            test_every_policy_asks_who_is_acting,
            "CREATE POLICY probe ON indicators FOR SELECT USING (true)",
            "['probe']: compare with current_setting",
        ),
        (
            test_every_policy_asks_who_is_acting,
            "ALTER POLICY indicators_tenant ON indicators WITH CHECK (true)",
            "['indicators_tenant']: say WITH CHECK",
        ),
        (
            test_every_policy_asks_who_is_acting,
            f"CREATE POLICY probe ON indicators FOR UPDATE TO ballast_app USING ({TENANT}) <> '')",
            "['probe']: say WITH CHECK",
        ),
        (
            test_every_policy_asks_who_is_acting,
            "CREATE POLICY probe ON indicators FOR INSERT TO ballast_app WITH CHECK (name <> '')",
            "['probe']: say WITH CHECK",
        ),
        (test_the_application_owns_and_truncates_nothing, "CREATE TABLE probe ()", "made by migrations"),
        (
            test_the_application_owns_and_truncates_nothing,
            "GRANT TRUNCATE ON indicators TO ballast_app",
            "['indicators']: TRUNCATE asks no policy",
        ),
        (
            test_soft_deleted_tables_cannot_be_deleted_from,
            "GRANT DELETE ON indicators TO ballast_app",
            "['indicators']: the application marks",
        ),
        (test_the_application_role_is_weak, "ALTER ROLE ballast_app BYPASSRLS", "['ballast_app'] can bypass"),
        (
            test_every_foreign_key_is_indexed,
            "CREATE TABLE probe (user_id uuid REFERENCES users)",
            "['probe.probe_user_id_fkey']: add an index",
        ),
        (
            test_every_tenant_table_has_an_index_that_begins_with_the_tenant,
            "ALTER TABLE reading_hours DROP CONSTRAINT pk_reading_hours",
            "{'reading_hours'}: row-level security filters",
        ),
        (
            test_foreign_keys_between_tenant_tables_carry_the_tenant,
            "ALTER TABLE reading_hours ADD CONSTRAINT probe FOREIGN KEY (indicator_id) REFERENCES indicators (id)",
            "['reading_hours.probe']: use ForeignKeyConstraint",
        ),
    ],
)
async def test_each_rule_about_the_database_bites(
    rule: Callable[..., Awaitable[None]], damage: str, sentence: str, metadata: MetaData, superuser: Db
) -> None:
    undone = superuser.transaction()
    await undone.start()
    try:
        await superuser.execute(damage)
        have = {"metadata": metadata, "superuser": superuser, "catalog": await catalog_of(superuser)}
        with pytest.raises(AssertionError, match=re.escape(sentence)):
            await rule(**{name: have[name] for name in inspect.signature(rule).parameters})
    finally:
        await undone.rollback()
