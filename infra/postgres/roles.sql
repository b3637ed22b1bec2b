-- The three roles of Ballast and what they may do in the database this file is run in. Run it as often as you like.
--
--   ballast_owner        runs migrations; owns the database and its schema
--   ballast_app          web and worker requests; owns nothing, creates nothing, obeys row-level security
--   ballast_maintenance  the worker's jobs across organizations; obeys row-level security, through policies of its own
--
-- Run it as a superuser (or a role with CREATEROLE) and set the passwords yourself: none belongs in a file.
-- Rights on tables are not here: each migration grants what its table needs, so that forgetting means "no access".

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['ballast_owner', 'ballast_app', 'ballast_maintenance'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', name);
        END IF;
        -- Somebody "fixing" a permission error by hand must not last: a role that bypasses row-level security
        -- turns every forgotten filter into a leak between organizations.
        IF EXISTS (
            SELECT FROM pg_roles
            WHERE rolname = name AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)
        ) THEN
            EXECUTE format('ALTER ROLE %I NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', name);
        END IF;
        IF NOT (SELECT rolcanlogin FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('ALTER ROLE %I LOGIN', name);
        END IF;
    END LOOP;

    -- Managed PostgreSQL gives no superuser; giving something away then needs membership of the receiver.
    IF NOT pg_has_role(current_user, 'ballast_owner', 'MEMBER') THEN
        EXECUTE format('GRANT ballast_owner TO %I', current_user);
    END IF;
    EXECUTE format('ALTER DATABASE %I OWNER TO ballast_owner', current_database());
    ALTER SCHEMA public OWNER TO ballast_owner;

    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    REVOKE ALL ON SCHEMA public FROM PUBLIC;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM ballast_app, ballast_maintenance', current_database());
    REVOKE ALL ON SCHEMA public FROM ballast_app, ballast_maintenance;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO ballast_app, ballast_maintenance', current_database());
    GRANT USAGE ON SCHEMA public TO ballast_app, ballast_maintenance;
END
$$;
