#!/bin/sh
# Start Valkey with a password that is in no command line: `ps` and `docker inspect` show arguments to everybody.
set -eu
umask 077
{ cat /etc/valkey/redis.conf; printf 'requirepass %s\n' "$REDIS_PASSWORD"; } >/tmp/valkey.conf
exec valkey-server /tmp/valkey.conf
