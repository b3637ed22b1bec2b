"""Run a stand-in for an outside system: a thread with a loop of its own, in a test or in a process of stand-ins."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import uvicorn
from starlette.types import ASGIApp

from infra.sandbox.errors import SandboxError
from infra.sandbox.ports import HOST, listen

START_TIMEOUT = 10.0
ENDINGS = {signal.SIGINT, signal.SIGTERM}


class StandIn:
    """A web application on a port of its own; `with` starts and stops it. Port 0 means a free one."""

    name = "stand-in"

    def __init__(self, port: int = 0, host: str = HOST) -> None:
        self.host = host
        self._socket = listen(port, host)
        self.port: int = self._socket.getsockname()[1]
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://{self.host}:{self.port}"

    def app(self) -> ASGIApp:
        raise NotImplementedError

    async def serve(self) -> None:
        """Answer until told to stop; a subclass with a second protocol starts that around this."""
        # A stand-in must not hold up a shutdown for a browser that keeps its connection open.
        # An idle connection lives longer here than in the service (5 s): or a call goes down one that is being closed.
        config = uvicorn.Config(
            self.app(),
            lifespan="off",
            ws="none",
            log_level="warning",
            timeout_graceful_shutdown=1,
            timeout_keep_alive=30,
            access_log=False,
        )
        self._server = uvicorn.Server(config)
        await self._server.serve(sockets=[self._socket])

    def __enter__(self) -> Self:
        failed: list[BaseException] = []

        def body() -> None:
            try:
                asyncio.run(self.serve())
            except BaseException as error:
                failed.append(error)

        self._thread = threading.Thread(target=body, name=self.name, daemon=True)
        self._thread.start()
        waited = threading.Event()
        for _ in range(int(START_TIMEOUT / 0.01)):
            if failed or (self._server and self._server.started):
                break
            waited.wait(0.01)
        if failed or not (self._server and self._server.started):
            raise SandboxError(f"the {self.name} did not start") from (failed[0] if failed else None)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._server:
            self._server.should_exit = True
        if self._thread:
            self._thread.join(START_TIMEOUT)
        self._socket.close()


def run_until_told(build: Callable[[], Sequence[StandIn]]) -> None:
    """Be a process of stand-ins until SIGTERM or Ctrl-C; says in one sentence why it cannot."""
    # Blocked before any thread starts, so that the signal waits for sigwait below instead of ending a thread.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        with ExitStack() as running:
            for stand_in in build():
                running.enter_context(stand_in)
                print(f"{stand_in.name} on {stand_in.address}", flush=True)
            signal.sigwait(ENDINGS)
    except SandboxError as error:
        raise SystemExit(str(error)) from None
