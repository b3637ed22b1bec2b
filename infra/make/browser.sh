#!/bin/sh
# Print the path of a Chromium for the tests; install one when there is none.
set -eu

say() { printf '%s\n' "$*" >&2; }

found() {
  printf '%s\n' "$1"
  exit 0
}

if [ -n "${BALLAST_CHROMIUM:-}" ]; then
  [ -x "$BALLAST_CHROMIUM" ] && found "$BALLAST_CHROMIUM"
  say "BALLAST_CHROMIUM is $BALLAST_CHROMIUM, which is not a program: correct it or unset it."
  exit 1
fi

look() {
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if path=$(command -v "$name"); then
      found "$path"
    fi
  done
  # What `playwright install` brought earlier.
  path=$(.venv/bin/python -c '
import os
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    path = playwright.chromium.executable_path
print(path if os.access(path, os.X_OK) else "")' 2>/dev/null) || path=''
  if [ -n "$path" ]; then
    found "$path"
  fi
}

look
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  say 'Installing chromium with apt-get ...'
  if apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >&2; then
    look
  fi
fi
say 'Installing Chromium with playwright ...'
if .venv/bin/python -m playwright install chromium >&2; then
  look
fi
say 'The tests need a browser and could not install one: install Chromium or Google Chrome, or set BALLAST_CHROMIUM to its path.'
exit 1
