-- The purge asks which organizations and people are under a legal hold. Operators place one as the owner; nobody else.
GRANT SELECT ON legal_holds TO ballast_maintenance;
