-- The audit log is a tenant's table with fewer rights than any other: written once, never changed, by nobody.

DO $$
DECLARE
    found record;
BEGIN
    -- Start from nothing, whatever the general rules for tenant tables have granted.
    FOR found IN SELECT policyname FROM pg_policies WHERE schemaname = 'public' AND tablename = 'audit_log' LOOP
        EXECUTE format('DROP POLICY %I ON audit_log', found.policyname);
    END LOOP;
END
$$;
REVOKE ALL ON audit_log, audit_segments FROM ballast_app, ballast_maintenance;

ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_log FORCE ROW LEVEL SECURITY;

-- Reads see the acting organization's rows; what happened before anybody had logged in belongs to no organization.
CREATE POLICY audit_log_tenant ON audit_log FOR SELECT TO ballast_app
    USING (organization_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY audit_log_append ON audit_log FOR INSERT TO ballast_app
    WITH CHECK (organization_id IS NULL OR organization_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY audit_log_maintenance_read ON audit_log FOR SELECT TO ballast_maintenance USING (true);
CREATE POLICY audit_log_maintenance_append ON audit_log FOR INSERT TO ballast_maintenance WITH CHECK (true);

-- Not txid and not cluster: a writer may not choose where in the order of transactions its row stands.
GRANT SELECT, INSERT (
    id, at, organization_id, actor_kind, actor_id, on_behalf_of, action, object_type, object_id, outcome, reason,
    request_id, session_ref, address_prefix, changes, facts, row_hash
) ON audit_log TO ballast_app, ballast_maintenance;
GRANT SELECT, INSERT ON audit_segments TO ballast_maintenance;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_segments_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_segments
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- ALWAYS: session_replication_role = replica would otherwise switch them off for a session.
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_append_only;
ALTER TABLE audit_segments ENABLE ALWAYS TRIGGER audit_segments_append_only;
