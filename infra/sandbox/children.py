"""The service's own processes as children: started with a log of their own, stopped in the reverse order."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from infra.sandbox.errors import SandboxError
from infra.sandbox.processes import end, last_lines, spawn, wait_until

READY_TIMEOUT = 60.0


class Running(Protocol):
    """Anything `make run` watches."""

    @property
    def name(self) -> str: ...

    @property
    def log(self) -> Path: ...

    @property
    def is_running(self) -> bool: ...

    @property
    def exit_code(self) -> int | None: ...

    def stop(self) -> None: ...


class Child:
    """`python -m ...` in the repository with an environment of ours."""

    def __init__(self, name: str, arguments: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path) -> None:
        self.name = name
        self.log = log
        log.unlink(missing_ok=True)
        self._process: subprocess.Popen[bytes] = spawn([sys.executable, "-m", *arguments], log=log, env=env, cwd=cwd)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        end(self._process, timeout=8)

    def finish(self) -> str:
        """Wait for a command that ends by itself and return what it printed. Raises SandboxError when it failed."""
        try:
            self._process.wait()
        finally:
            self.stop()
        if self.exit_code:
            raise SandboxError(why_it_died(self))
        return self.log.read_text(errors="replace")


def wait_until_answers(url: str, child: Running) -> None:
    """Wait for a 2xx. Raises SandboxError when the child dies or takes longer than a minute."""

    def answers() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - our own http address
                return bool(200 <= response.status < 300)
        except OSError:  # refused, or an HTTP error such as 503: not yet
            return False

    came_up = wait_until(lambda: not child.is_running or answers(), timeout=READY_TIMEOUT, every=0.05)
    if not child.is_running:
        raise SandboxError(why_it_died(child))
    if not came_up:
        raise SandboxError(f"{child.name} does not answer {url}; the end of {child.log}:\n{last_lines(child.log)}")


def why_it_died(child: Running) -> str:
    """One sentence and the end of its log."""
    return f"{child.name} stopped with exit code {child.exit_code}; the end of {child.log}:\n{last_lines(child.log)}"
