#!/bin/sh
# Check the alert rules and run their simulations with promtool: from the PATH, else from Prometheus's own image.
set -eu
cd "$(dirname "$0")"
image=prom/prometheus:v3.13.2
if command -v promtool >/dev/null; then
  promtool check rules ./*.yml && promtool test rules tests/*.yml
elif command -v docker >/dev/null && docker info >/dev/null 2>&1; then
  exec docker run --rm --network none --read-only --volume "$PWD:/rules:ro" --workdir /rules --entrypoint /bin/sh \
    "$image" -c 'promtool check rules ./*.yml && promtool test rules tests/*.yml'
else
  echo "promtool is missing: install Prometheus (Debian: apt-get install prometheus) or start Docker" >&2
  exit 1
fi
