#!/bin/sh
# Runs once, when PostgreSQL's volume is empty: the three roles, then their passwords from the environment.
# psql reads the passwords itself (\getenv): on a command line every process on the host could read them.
set -eu
export PGOPTIONS='-c log_statement=none'
psql --no-psqlrc -v ON_ERROR_STOP=1 --username postgres --dbname "$POSTGRES_DB" \
  --file "${ROLES_SQL:-/etc/ballast/roles.sql}" --file - <<'SQL'
\getenv app BALLAST_APP_PASSWORD
\getenv owner BALLAST_OWNER_PASSWORD
\getenv maintenance BALLAST_MAINTENANCE_PASSWORD
ALTER ROLE ballast_app PASSWORD :'app';
ALTER ROLE ballast_owner PASSWORD :'owner';
ALTER ROLE ballast_maintenance PASSWORD :'maintenance';
SQL
