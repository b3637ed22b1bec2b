#!/bin/sh
# Prove the deployment on an empty machine: build, start everything, ask it, stop it, throw it all away.
# `make smoke` runs it; needs Docker with compose and ports 18000, 18025, 18090.
set -eu
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
compose() {
  PORT=18000 INBOX_PORT=18025 OIDC_PORT=18090 docker compose --project-name ballast-smoke --env-file "$work/env" --file infra/compose.yaml "$@"
}
finish() {
  status=$?
  [ "$status" -eq 0 ] || compose logs --no-color --tail 60
  compose --profile sandbox down --volumes --remove-orphans >/dev/null 2>&1 || true
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT
say() { printf '\n== %s\n' "$1"; }

sh infra/compose/make-env.sh >"$work/env"

say "everything starts and becomes healthy"
# With the sandbox, because `doctor` also asks the mail server.
compose --profile sandbox up --build --detach --wait --wait-timeout 600

say "web answers on 127.0.0.1 only"
python3 - <<'PY'
import urllib.request

print(urllib.request.urlopen("http://127.0.0.1:18000/readyz", timeout=5).read().decode())
PY

say "web and worker find their dependencies"
compose exec -T app python -m service doctor
compose exec -T worker python -m service doctor

say "the scanner recognizes the file that all scanners know"
compose exec -T worker python - <<'PY'
import asyncio

from service.core.settings import get_settings
from service.integrations.scanner import Scanner


async def eicar():
    yield b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


found = asyncio.run(Scanner(get_settings()).scan(eicar()))
assert "eicar" in found.signature.lower(), found
print(found.signature)
PY

say "nothing can be written where code lives, and nobody is root"
for service in app worker; do
  if compose exec -T "$service" touch /app/x 2>/dev/null; then
    echo "$service: its root is writable" >&2
    exit 1
  fi
  [ "$(compose exec -T "$service" id -u)" = 10001 ]
done

say "PostgreSQL refuses a connection without TLS"
# shellcheck disable=SC2016 # the password is expanded inside the container, where it lives
if compose exec -T postgres sh -c \
  'PGPASSWORD=$BALLAST_APP_PASSWORD psql "host=127.0.0.1 user=ballast_app dbname=ballast sslmode=disable" -c "select 1"'; then
  echo "PostgreSQL accepted plaintext" >&2
  exit 1
fi

# 143 is uvicorn's way of saying "I was asked to": it ends what runs, then ends itself by the same signal. 137 is a kill.
say "web and worker stop by themselves when asked"
compose stop app worker
for service in app worker; do
  code=$(docker inspect --format '{{.State.ExitCode}}' "$(compose ps --all --quiet "$service")")
  echo "$service exited $code"
  case $code in 0 | 143) ;; *) exit 1 ;; esac
done
