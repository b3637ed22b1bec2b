#!/bin/sh
# Print .env.example with every empty secret filled with 32 random bytes:
#   sh infra/compose/make-env.sh >infra/compose/.env
set -eu
umask 077
here=$(CDPATH='' cd "$(dirname "$0")" && pwd)
random() { od -An -tx1 -N32 /dev/urandom | tr -d ' \n'; }
while IFS= read -r line; do
  case $line in
    ENCRYPTION_KEYS=) printf 'ENCRYPTION_KEYS=1:%s\n' "$(random)" ;;
    *_PASSWORD= | *_KEY= | *_TOKEN=) printf '%s%s\n' "$line" "$(random)" ;;
    *) printf '%s\n' "$line" ;;
  esac
done <"$here/.env.example"
