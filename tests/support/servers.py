"""The web application and the worker in threads of their own, each with its own event loop, as in production."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import structlog
import uvicorn

from service.core.settings import Settings

START_SECONDS = 60


class RunningServer:
    """uvicorn on the host and port of `settings.base_url`; `url` is its address."""

    def __init__(self, settings: Settings) -> None:
        from service.app import create_app

        self.url = settings.base_url
        parts = urlsplit(settings.base_url)
        self.app = create_app(settings)
        # In production a logger keeps the first output that it meets: later tests would look for its lines in vain.
        structlog.configure(cache_logger_on_first_use=False)
        self._server = uvicorn.Server(
            uvicorn.Config(
                self.app,
                host=parts.hostname or "127.0.0.1",
                port=parts.port or 80,
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=5,
                # Longer than a client keeps an idle connection (httpx: 5 s, which is uvicorn's default, too): or a
                # request goes down one that is just being closed, and a test fails with ReadError.
                timeout_keep_alive=30,
            )
        )
        self._thread = threading.Thread(target=self._server.run, name="server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        waited = threading.Event()
        for _ in range(START_SECONDS * 100):
            if self._server.started:
                return self
            if not self._thread.is_alive():
                break
            waited.wait(0.01)
        raise RuntimeError("the server did not start; its log says why")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.should_exit = True
        self._thread.join(START_SECONDS)


class RunningWorker:
    """`service.worker.run` until the block ends."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name="worker", daemon=True)

    def _main(self) -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(self._run())

    async def _run(self) -> None:
        from service.worker import run

        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._ready.set()
        await run(self.settings)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(START_SECONDS)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._loop is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(START_SECONDS)
