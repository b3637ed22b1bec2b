"""`python -m service WORDS` in a process of its own, forked from one that has imported the libraries already.

Two seconds of every command are Python reading modules. Here a fork server reads them once per test worker; each
command is a fork of it with its own environment, output and end. That `python -m service` itself starts is proven by
the tests of `make run`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import get_context
from pathlib import Path


def _become(words: tuple[str, ...], environment: dict[str, str], directory: str, outputs: tuple[str, str]) -> None:
    """In the child: what a shell would have set up, then the command's own main."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    for number, path in enumerate(outputs, start=1):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["service", *words]
    from service.cli import main

    main()


context = get_context("forkserver")
context.set_forkserver_preload(["tests.support.preloaded"])


class Forked:
    """A running command. What it prints goes into files: a pipe that nobody empties would stop it."""

    def __init__(self, *words: str, environment: Mapping[str, str], stdout: Path | None = None) -> None:
        self._kept = tempfile.TemporaryDirectory(prefix="ballast-command-")
        self._outputs = stdout or Path(self._kept.name, "stdout"), Path(self._kept.name, "stderr")
        out, error = map(str, self._outputs)
        self._process = context.Process(
            target=_become, args=(words, dict(environment), os.getcwd(), (out, error)), daemon=True
        )
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """As `subprocess` has it: negative where a signal ended it."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Asked from one thread alone: two that read the code of one end would leave one of them without it."""
        while self.returncode is None:
            await asyncio.sleep(0.01)
        return self.returncode

    async def communicate(self) -> tuple[str, str]:
        """Everything that it printed until its end: on standard output, and on standard error."""
        await self.wait()
        out, error = (path.read_text() if path.exists() else "" for path in self._outputs)
        self._kept.cleanup()
        return out, error
