"""`ops/on` for the stack that `make run` started on this machine: same words, same answers as in compose.

It borrows the running web process's environment, so addresses, ports and tokens are the ones in use.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from infra.sandbox.configuration import ROOT, home
from infra.sandbox.errors import SandboxError
from infra.sandbox.postgres import EmbeddedPostgres
from infra.sandbox.processes import children_of, command_line, last_lines

PARTS = {
    "app": ("web", r" -m service serve"),
    "worker": ("worker", r" -m service worker"),
    "redis": ("redis", r"valkey-server"),
    "postgres": ("postgres", r"bin/postgres -D"),
}
"""Name in compose -> name of its log, and what its command line contains."""


def main(verb: str, *words: str) -> int:
    """Carry out one word of `ops/on`. Raises SandboxError with one sentence when it cannot."""
    if verb == "state":
        print(state(words[0]))
    elif verb == "logs":
        print(last_lines(home().logs / f"{part(words[0])[0]}.log", 100))
    elif verb == "sql":
        print(as_superuser(environment()).psql(words[0], "ballast"))
    elif verb == "service":
        return run("-m", "service", *words)
    elif verb in {"http", "metrics", "redis"}:
        return run("ops/inside.py", verb, *words)
    elif verb == "restart":
        raise SandboxError(
            "`make run` starts and stops as a whole: press Ctrl-C in its terminal, then `make run` again"
        )
    else:
        raise SandboxError(f"unknown word {verb}")
    return 0


def part(name: str) -> tuple[str, str]:
    if name not in PARTS:
        raise SandboxError(f"there is no {name}; the parts are {', '.join(PARTS)}")
    return PARTS[name]


def find(name: str) -> int | None:
    """Process id of a part of the running stack."""
    pattern = re.compile(part(name)[1])
    return next((pid for pid in _family(_launcher()) if pattern.search(command_line(pid))), None)


def state(name: str) -> str:
    pid = find(name)
    if pid is None:
        return f"{name} stopped"
    letter = _ps("-o", "state=", "-p", str(pid))[:1]
    return f"{name} {'paused' if letter == 'T' else 'running'} pid {pid}"


def environment() -> dict[str, str]:
    """The environment of the running web process."""
    pid = find("app")
    if pid is None:
        raise SandboxError(f"the web process does not run; its log is {home().logs / 'web.log'}")
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    except FileNotFoundError:  # no /proc, as on macOS
        pairs = _ps("eww", "-o", "command=", "-p", str(pid)).split()
    return dict(pair.split("=", 1) for pair in pairs if re.match(r"\w+=", pair))


def as_superuser(variables: dict[str, str]) -> EmbeddedPostgres:
    server = EmbeddedPostgres(home().path / "postgres", urlsplit(variables["DATABASE_URL"]).port or 5432)
    try:
        server.password("postgres")
    except FileNotFoundError:
        raise SandboxError("this PostgreSQL is your own (DATABASE_URL): use your psql as a superuser") from None
    return server


def run(*arguments: str) -> int:
    variables = environment()
    variables |= {"OPS_ADDRESS": variables["BASE_URL"], "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=variables, check=False).returncode  # noqa: S603


def _launcher() -> int:
    note = re.search(r"pid (\d+)", (home().path / "lock").read_text()) if (home().path / "lock").exists() else None
    if note is None or not command_line(int(note[1])):
        raise SandboxError("`make run` does not run in this clone; start it, or set STACK=compose")
    return int(note[1])


def _family(pid: int) -> list[int]:
    children = children_of(pid)
    return children + [grandchild for child in children for grandchild in _family(child)]


def _ps(*arguments: str) -> str:
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603, S607


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except (SandboxError, IndexError) as problem:
        print(f"ops/on: {problem}" if str(problem) else main.__doc__, file=sys.stderr)
        sys.exit(1)
