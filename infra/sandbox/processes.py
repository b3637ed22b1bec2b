"""Start processes that cannot outlive us, and look at others without any library."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

BOUND = Path(__file__).with_name("bound.py")


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    death_signal: int = signal.SIGTERM,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command bound to this thread's life, in a session of its own, output appended to `log`.

    A session of its own, because Ctrl-C reaches a terminal's whole process group at once: the database would stop
    before those who still want to finish their transaction.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    bound = [sys.executable, "-I", "-S", str(BOUND), str(os.getpid()), str(int(death_signal))]
    with log.open("ab") as output:
        return subprocess.Popen(
            [*bound, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes], first_signal: int = signal.SIGTERM, timeout: float = 10.0) -> bool:
    """Ask a child to stop, then insist; answers whether asking was enough. `timeout` in seconds."""
    if process.poll() is None:
        process.send_signal(first_signal)
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True


def command_line(pid: int) -> str:
    """The command a process runs; empty when there is no such process or it is a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return "" if sys.platform == "linux" else _ps("-o", "command=", "-p", str(pid))


def children_of(pid: int) -> list[int]:
    """Direct children of a process."""
    if sys.platform != "linux":
        rows = (line.split() for line in _ps("-axo", "pid=,ppid=").splitlines())
        return [int(child) for child, parent in rows if int(parent) == pid]
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # "pid (any ) name) state ppid ...": the name may hold spaces and brackets, so cut at the last one.
            if int(stat.read_text(errors="replace").rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def send(pids: Sequence[int], number: int) -> None:
    """Signal processes; those already gone are fine."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def wait_until(condition: Callable[[], bool], *, timeout: float, every: float = 0.01) -> bool:
    """Poll a condition for at most `timeout` seconds; answers whether it came true."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log file, for showing why something died."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-count:])
    except FileNotFoundError:
        return ""


def _ps(*arguments: str) -> str:
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False).stdout.strip()
