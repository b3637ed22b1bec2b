-- An answer belongs to the organization it was given in, or to the person where there is none. It never changes.
ALTER TABLE idempotency_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE idempotency_keys FORCE ROW LEVEL SECURITY;

CREATE POLICY idempotency_keys_tenant ON idempotency_keys TO ballast_app
    USING (owner_id = coalesce(
        nullif(current_setting('app.tenant', true), '')::uuid, nullif(current_setting('app.user', true), '')::uuid
    ))
    WITH CHECK (owner_id = coalesce(
        nullif(current_setting('app.tenant', true), '')::uuid, nullif(current_setting('app.user', true), '')::uuid
    ));
CREATE POLICY idempotency_keys_maintenance ON idempotency_keys TO ballast_maintenance USING (true) WITH CHECK (true);

GRANT SELECT, INSERT ON idempotency_keys TO ballast_app;
GRANT SELECT, DELETE ON idempotency_keys TO ballast_maintenance;
