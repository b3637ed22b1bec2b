-- Switches are for everybody, so they belong to no organization; invariants are results about all of them.
GRANT SELECT, INSERT, UPDATE ON switches TO ballast_app;
GRANT SELECT, INSERT, UPDATE ON switches TO ballast_maintenance;

GRANT SELECT ON invariant_results TO ballast_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON invariant_results TO ballast_maintenance;
