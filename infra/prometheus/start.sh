#!/bin/sh
# Start Prometheus with the scrape token in a file of its own, on a file system that lives in memory.
set -eu
umask 077
printf '%s' "$METRICS_TOKEN" >/tmp/metrics_token
exec /bin/prometheus \
  --config.file=/etc/prometheus/prometheus.yml \
  --storage.tsdb.path=/prometheus \
  --storage.tsdb.retention.time=15d \
  --web.listen-address=0.0.0.0:9090
