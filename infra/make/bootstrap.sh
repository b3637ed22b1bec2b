#!/bin/sh
# Make .venv from uv.lock: the first Python >= 3.11 there is, then uv, then exactly what the lock says.
# BALLAST_PYTHON goes first, because a machine with several Pythons must be able to test each of them.
set -eu

UV_VERSION=0.13.9

say() { printf '%s\n' "$*" >&2; }

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# An environment is whole when its Python runs and has pip; an interrupted start leaves one that is not.
is_whole() { is_new_enough .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; }

if ! is_whole; then
  python=''
  for candidate in ${BALLAST_PYTHON:-} python3.13 python3.12 python3.11 python3; do
    if command -v "$candidate" >/dev/null && is_new_enough "$candidate"; then
      python=$candidate
      break
    fi
  done
  if [ -z "$python" ]; then
    say 'Ballast needs Python 3.11 or newer, and none of python3.13, python3.12, python3.11, python3 is one: install it and run make again.'
    exit 1
  fi
  if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
    say "$python has no venv module: on Debian and Ubuntu run \`sudo apt-get install $(basename "$python")-venv\`, then make again."
    exit 1
  fi
  say "Creating .venv with $("$python" --version) ..."
  rm -rf .venv
  "$python" -m venv .venv
fi

if [ "$(.venv/bin/uv --version 2>/dev/null | cut -d' ' -f2)" != "$UV_VERSION" ]; then
  say "Installing uv $UV_VERSION ..."
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
fi

say 'Installing what uv.lock names ...'
# VIRTUAL_ENV: not another environment that happens to be active in this shell.
sync() { VIRTUAL_ENV='' .venv/bin/uv sync --frozen --quiet --python .venv/bin/python "$@"; }
# Behind a company's proxy only the operating system knows the certificate, and uv looks there only when asked.
sync 2>/dev/null || sync --system-certs
