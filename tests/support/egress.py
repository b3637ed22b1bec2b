"""Who was talked to, and what was said: a recorder of the process's connections, and a tap on a stranger's line."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

import pytest
import uvloop

QUESTION = re.compile(rb"([A-Z]+ )(?:http://[^/ ]+)?(/[^ ]*) HTTP/1.1\r\n")


class Tap:
    """A port that passes everything on to another one, and keeps what was sent there (`heard`).

    `send_away` makes it a peer who answers some questions with a redirect; `sent_away` counts them.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.heard = bytearray()
        self.sent_away = 0
        self._away: tuple[re.Pattern[str], str] | None = None
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="tap", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()

    @property
    def other_name(self) -> str:
        """The same port under a name that is another host to whoever compares names."""
        return f"http://localhost:{self.port}"

    def send_away(self, questions: str, address: str) -> None:
        """Whatever begins like this ("PUT /", a regular expression) is answered with 307 to `address`."""
        self._away = re.compile(questions), address

    def be_true(self) -> None:
        self._away = None

    def _redirects(self, part: bytes, source: socket.socket) -> bool:
        found = QUESTION.match(part)
        if self._away is None or found is None or not self._away[0].match((found[1] + found[2]).decode()):
            return False
        self.sent_away += 1
        head = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {self._away[1]}{found[2].decode()}\r\n"
        source.sendall(f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        source.shutdown(socket.SHUT_WR)
        while source.recv(65_536):  # whoever closes with something unread takes the answer back
            pass
        return True

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._socket.accept()
                far = socket.create_connection(self.target)
                for source, sink, keep in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pass, args=(source, sink, keep), name="tap", daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, keep: bool) -> None:
        with suppress(OSError), source, sink:
            while part := source.recv(65_536):
                if keep:
                    self.heard += part
                    if self._redirects(part, source):
                        break
                sink.sendall(part)
            sink.shutdown(socket.SHUT_WR)


def name_proxy(patch: pytest.MonkeyPatch, proxy: Tap) -> None:
    """An environment that sends everything through this proxy, loopback too."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        patch.setenv(name, proxy.address)
        patch.setenv(name.lower(), proxy.address)
    for name in ("NO_PROXY", "no_proxy"):
        patch.delenv(name, raising=False)


@contextmanager
def recorded(threads: set[str]) -> Iterator[set[tuple[str, int]]]:
    """(host, port) of every connection that an event loop in these threads opens: driver, Redis, mail, HTTP alike.

    The object store's library opens its own below Python: for that there is the tap.
    """
    seen: set[tuple[str, int]] = set()
    with pytest.MonkeyPatch.context() as patch:
        for loop in (asyncio.BaseEventLoop, uvloop.Loop):
            _listen(patch, loop, seen, threads)
        yield seen


def _listen(patch: pytest.MonkeyPatch, loop: Any, seen: set[tuple[str, int]], threads: set[str]) -> None:
    original = loop.create_connection

    async def create_connection(self: Any, factory: Any, host: Any = None, port: Any = None, **more: Any) -> Any:
        if threading.current_thread().name in threads and host is not None:
            seen.add((str(host), int(port)))
        return await original(self, factory, host, port, **more)

    patch.setattr(loop, "create_connection", create_connection)
