"""What staff wrote about people goes with them; the log's rows when their year is over, and until then for nobody.

Phase: expand (pre).
"""

from __future__ import annotations

from alembic import op

from migrations import ddl

revision = "2026_11_23_pre_audit_retention"
down_revision = "2026_11_23_pre_staff_walks"
branch_labels = None
depends_on = None

KEPT = "interval '400 days'"


def upgrade() -> None:
    op.execute(f"""
        CREATE OR REPLACE FUNCTION refuse_young() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF OLD.at > now() - {KEPT} THEN
                RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN OLD;
        END $$
    """)
    # Both in one transaction with what they replace: there is no moment without them.
    op.execute("DROP TRIGGER IF EXISTS audit_log_append_only ON audit_log")
    op.execute("DROP TRIGGER IF EXISTS audit_log_kept ON audit_log")
    op.execute("""
        CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR TRUNCATE ON audit_log
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """)
    op.execute("""
        CREATE TRIGGER audit_log_kept BEFORE DELETE ON audit_log
            FOR EACH ROW EXECUTE FUNCTION refuse_young()
    """)
    op.execute("ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_append_only")
    op.execute("ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_kept")
    # A purge whose clock runs ahead finds nothing rather than failing; the trigger is for everybody else.
    ddl.policy(
        "audit_log_maintenance_purge",
        "audit_log",
        f"FOR DELETE TO ballast_maintenance USING (at <= now() - {KEPT})",
    )
    op.execute("GRANT DELETE ON audit_log TO ballast_maintenance")
    for table in ("legal_holds", "support_visits"):
        # The code before this one shows an empty reason as it is; it becomes NULL only where somebody is erased.
        op.execute(f"-- squawk-ignore ban-drop-not-null\nALTER TABLE {table} ALTER COLUMN reason DROP NOT NULL")
        op.execute(f"GRANT UPDATE (reason) ON {table} TO ballast_maintenance")
    op.execute("GRANT DELETE ON legal_holds TO ballast_maintenance")
