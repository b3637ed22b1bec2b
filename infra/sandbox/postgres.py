"""A real PostgreSQL out of a wheel: no root, no Docker, nothing installed.

    with EmbeddedPostgres(directory) as postgres:
        postgres.create_database("shop")
        postgres.url("ballast_app", "shop")

TCP on the loopback interface only; no Unix socket, whose path may not exceed 107 bytes and a deep clone exceeds that.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Self

from infra.sandbox import as_user
from infra.sandbox.errors import SandboxError
from infra.sandbox.pgwheel import binary
from infra.sandbox.processes import command_line
from infra.sandbox.server import EmbeddedServer

ROLES_SQL = Path(__file__).resolve().parents[1] / "postgres" / "roles.sql"
SUPERUSER = "postgres"
ROLES = ("ballast_owner", "ballast_app", "ballast_maintenance")

# Passwords here are 128 random bits: stretching them only makes each connection slower.
SCRAM_ITERATIONS = 64


class EmbeddedPostgres(EmbeddedServer):
    """One server in one directory; `durable=False` trades safety after a power cut for speed, for tests."""

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # "fast": ends sessions, writes a checkpoint, loses nothing

    def __init__(
        self,
        data_dir: Path | str,
        port: int = 0,
        *,
        durable: bool = True,
        max_connections: int = 100,
        log: Path | None = None,
    ) -> None:
        super().__init__(data_dir, port, log=log)
        self.durable = durable
        self.max_connections = max_connections
        self._cluster = self.data_dir / "cluster"
        self._secret_file = self.data_dir / "secret"

    def url(self, role: str, database: str) -> str:
        """Address of one database as one role (`postgres` is the superuser)."""
        return f"postgresql://{role}:{self.password(role)}@{self.host}:{self.port}/{database}"

    def password(self, role: str) -> str:
        """Each role has its own, so that the application's does not open the owner's door."""
        secret = self._secret_file.read_bytes()
        return hmac.new(secret, role.encode(), hashlib.sha256).hexdigest()[:32]

    def create_database(self, name: str, template: str = "template1") -> None:
        """Create a database if it is missing (as a copy of `template`), and give the three roles their rights in it."""
        # Not IF NOT EXISTS, which CREATE DATABASE lacks; psql quotes its variables.
        if not self.psql("SELECT 1 FROM pg_database WHERE datname = :'name'", name=name):
            self.psql('CREATE DATABASE :"name" TEMPLATE :"template"', name=name, template=template)
        # Only where none is set: parallel test workers that all alter a role fail with "tuple concurrently updated".
        passwords = "".join(
            f"SELECT format('ALTER ROLE %I PASSWORD %L', rolname, '{self.password(role)}') FROM pg_authid "  # noqa: S608
            f"WHERE rolname = '{role}' AND rolpassword IS NULL \\gexec\n"
            for role in ROLES
        )
        self.psql(f"{ROLES_SQL.read_text()}\nSET scram_iterations = {SCRAM_ITERATIONS};\n{passwords}", name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, ending its sessions."""
        self.psql('DROP DATABASE IF EXISTS :"name" WITH (FORCE)', name=name)

    def psql(self, script: str, database: str = "postgres", **variables: str) -> str:
        """Run SQL as the superuser and return what it prints, unaligned. Raises SandboxError with the first error.

        `variables` stand in the script as :'name' (a value) or :"name" (an identifier).
        """
        flags = [word for name, value in variables.items() for word in ("-v", f"{name}={value}")]
        done = subprocess.run(
            [binary("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-", *flags],
            input=script,
            capture_output=True,
            text=True,
            check=False,
            env=_clean_environment(
                PGHOST=self.host, PGPORT=str(self.port), PGUSER=SUPERUSER, PGPASSWORD=self.password(SUPERUSER)
            ),
        )
        if done.returncode:
            raise SandboxError(f"PostgreSQL refused a statement: {done.stderr.strip()}")
        return done.stdout.strip()

    def __enter__(self) -> Self:
        return self.start()

    def _prepare(self) -> None:
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)  # whoever it named is gone: see _end_orphan
        if not (self._cluster / "PG_VERSION").exists():
            self._create_cluster()
        if not self._secret_file.exists():
            raise SandboxError(
                f"{self._secret_file} is gone, and with it every password; run `make reset`, start again"
            )
        as_user.give(self._cluster)

    def _create_cluster(self) -> None:
        """initdb beside the final place, then rename: a cluster is either whole or absent."""
        partial = self.data_dir / "cluster.partial"
        shutil.rmtree(partial, ignore_errors=True)
        if self._cluster.exists():
            raise SandboxError(f"{self._cluster} is not a PostgreSQL cluster; delete it (`make reset`) and start again")
        self._secret_file.touch(mode=0o600)
        self._secret_file.write_bytes(secrets.token_bytes(32))
        password_file = self.data_dir / "password.partial"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password(SUPERUSER))
        partial.mkdir(mode=0o700)
        as_user.give(partial)
        # The builtin locale orders text the same way on every operating system; the wheel carries no ICU.
        options = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        done = subprocess.run(
            [
                *as_user.prefix(),
                *(binary("initdb"), "-D", partial, "-U", SUPERUSER, f"--pwfile={password_file}"),
                *("--auth=scram-sha-256", "--no-sync", *options),
                *("-c", f"scram_iterations={SCRAM_ITERATIONS}"),
            ],
            capture_output=True,
            text=True,
            check=False,
            env=_clean_environment(),
        )
        password_file.unlink()
        if done.returncode:
            raise SandboxError(f"initdb failed: {done.stderr.strip()}")
        partial.rename(self._cluster)

    def _command(self) -> list[str | Path]:
        settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": str(self.max_connections),
            "log_line_prefix": "%m [%p] %q%u@%d ",
        }
        if not self.durable:
            # Not synchronous_commit=off: that loses commits when a test kills the server, which we promise never to do.
            settings |= {"fsync": "off", "full_page_writes": "off"}
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [*as_user.prefix(self.stop_signal), binary("postgres"), "-D", self._cluster, *flags]

    def _is_ready(self) -> bool:
        # What pg_ctl looks at: the eighth line of the pid file says "ready" when connections are welcome.
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"

    def _orphan(self) -> int | None:
        try:
            pid = int((self._cluster / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None
        # The number may belong to somebody else by now; PostgreSQL itself would then refuse to start.
        return pid if f"{self._cluster} " in command_line(pid) else None

    def _is_passing(self, log: str) -> bool:
        # After SIGKILL the old server's children need a moment to notice.
        return super()._is_passing(log) or "shared memory block" in log


def _clean_environment(**extra: str) -> dict[str, str]:
    """Ours without the person's own PG* variables, which would redirect the client programs."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | extra
