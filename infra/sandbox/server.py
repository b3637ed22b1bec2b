"""What the embedded PostgreSQL and Redis have in common: a directory, a port, and ways to start, stop and hurt them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from infra.sandbox.errors import PortBusy, SandboxError
from infra.sandbox.locks import DirectoryLock
from infra.sandbox.ports import HOST, free_port, is_free
from infra.sandbox.processes import children_of, command_line, end, last_lines, send, spawn, wait_until

ATTEMPTS = 5
READY_TIMEOUT = 30.0
ORPHAN_GRACE = 3.0


class EmbeddedServer(ABC):
    """A real server that lives as long as this object (or this process, whichever ends first).

    `data_dir` belongs to one object at a time. Port 0 means: choose a free one at the first start and keep it.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    host = HOST

    def __init__(self, data_dir: Path | str, port: int = 0, *, log: Path | None = None) -> None:
        self.data_dir = Path(data_dir).resolve()
        self.log = log or self.data_dir / "server.log"
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = DirectoryLock(self.data_dir)
        self._locked = False

    @property
    def pid(self) -> int:
        """Process id of the running server. Raises SandboxError when it is not running."""
        if not self.is_running or self._process is None:
            raise SandboxError(f"{self.name} is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll() if self._process else None

    def start(self) -> Self:
        """Start and wait until it answers. Raises SandboxError (or PortBusy) with the reason."""
        if self.is_running:
            raise SandboxError(f"{self.name} already runs (pid {self.pid})")
        self.claim()
        try:
            self._prepare()
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def claim(self) -> Self:
        """Make the directory ours and end the server that a dead launcher left on it: its port is free after this."""
        self._take_directory()
        try:
            self._end_orphan()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop cleanly; does nothing when it does not run."""
        if self._process is not None:
            if self.is_running:
                self.resume()  # a paused process keeps every signal for later
            end(self._process, self.stop_signal, timeout=20)
            self._process = None
        if self._locked:
            self._lock.release()
            self._locked = False

    def kill(self) -> None:
        """Die at once, like a lost machine: SIGKILL for the server and every process it has. `start` brings it back."""
        family = self._family()
        send(family, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        wait_until(lambda: not any(map(command_line, family)), timeout=5)

    def pause(self) -> None:
        """Hang without closing a connection: what a stalled disk or a network black hole looks like to a client."""
        # The parent first, or it would start a child that nobody stopped.
        send([self.pid], signal.SIGSTOP)
        send(children_of(self.pid), signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        send(self._family()[::-1], signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> None:
        """Repair what a crash left, create what is missing."""

    @abstractmethod
    def _command(self) -> list[str | Path]:
        """The server's command line for `self.port`."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Does it answer?"""

    @abstractmethod
    def _orphan(self) -> int | None:
        """Process id of a server that a dead launcher left on our directory."""

    def _is_passing(self, log: str) -> bool:
        """Is the reason in the log one that goes away, so that another try is worth it?"""
        return "Address already in use" in log or "could not bind" in log

    def _family(self) -> list[int]:
        return [self.pid, *children_of(self.pid)]

    def _take_directory(self) -> None:
        if self._locked:
            return
        if not self._lock.acquire(f"pid {os.getpid()}\n"):
            raise SandboxError(
                f"{self.name} in {self.data_dir} is in use ({self._lock.note().strip()}); stop that one first"
            )
        self._locked = True

    def _end_orphan(self) -> None:
        """We hold the directory's lock, so a server that runs on it lost its launcher: let it finish, then insist."""
        for number in (None, self.stop_signal, signal.SIGKILL):
            orphan = self._orphan()
            if orphan is None:
                return
            if number is not None:
                send([orphan], number)
            # Usually it is stopping already, because the kernel told it about its launcher.
            wait_until(lambda: self._orphan() is None, timeout=ORPHAN_GRACE)
        if self._orphan() is not None:
            raise SandboxError(
                f"an older {self.name} (pid {self._orphan()}) does not stop; run: kill -9 {self._orphan()}"
            )

    def _launch(self) -> None:
        chosen = self.port != 0
        for attempt in range(ATTEMPTS):
            if not chosen:
                self.port = free_port()
            elif not is_free(self.port):
                raise PortBusy(f"port {self.port} for {self.name} is in use by another program")
            self.log.unlink(missing_ok=True)
            self._process = spawn(self._command(), log=self.log, death_signal=self.stop_signal)
            ready = wait_until(lambda: not self.is_running or self._is_ready(), timeout=READY_TIMEOUT)
            if self.is_running and ready:
                return
            end(self._process, signal.SIGKILL)
            reason = last_lines(self.log)
            if not (self._is_passing(reason) and attempt < ATTEMPTS - 1):
                break
            time.sleep(0.2)
        raise SandboxError(f"{self.name} did not start in {self.data_dir}; the end of {self.log}:\n{reason}")
