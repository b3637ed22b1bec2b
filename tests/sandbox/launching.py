"""`make run` as a process in a home and on ports of its own: start it, read what it says, see that nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from infra.sandbox.configuration import ROOT
from infra.sandbox.ports import is_free
from infra.sandbox.processes import command_line, wait_until

Start = Callable[..., subprocess.Popen[str]]


def launch(
    home: Path, ports: dict[str, int], command: Sequence[str], variables: dict[str, str]
) -> subprocess.Popen[str]:
    """Start a command with nothing in its environment but what a login shell has, our home, our ports, and `variables`.

    In a group of its own, as a terminal would: Ctrl-C there reaches make and what make started.
    """
    inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    own = {f"BALLAST_{name.upper()}_PORT": str(port) for name, port in ports.items()}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=inherited | own | {"BALLAST_HOME": str(home)} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def module(name: str) -> list[str]:
    return [sys.executable, "-m", f"infra.sandbox.{name}"]


def ending(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and what it still had to say."""
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What it said up to and including the line that holds these words."""
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
    raise AssertionError(f"it ended and never said {words!r}:\n" + "".join(lines))


def assert_nothing_runs(home: Path, ports: dict[str, int]) -> None:
    assert wait_until(lambda: all(map(is_free, ports.values())), timeout=60)
    assert processes_of(home) == []


def processes_of(home: Path) -> list[str]:
    """The commands of all processes that name this directory."""
    listed = subprocess.run(["ps", "-axo", "pid="], capture_output=True, text=True, check=True).stdout
    return [line for word in listed.split() if str(home) in (line := command_line(int(word)))]
