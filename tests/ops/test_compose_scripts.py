"""What compose runs at start, run for real: certificates that strict TLS accepts, roles with their own passwords."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import asyncpg
import pytest
from cryptography import x509
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from infra.compose import certificates
from infra.sandbox.pgwheel import binary
from infra.sandbox.postgres import EmbeddedPostgres
from service.guardrails.jobs.queue import WorkerHeartbeat

ROOT = Path(__file__).resolve().parents[2]
PASSWORDS = {"app": "a-p'\"$x", "owner": "o:w/n@e?r", "maintenance": "m%40\\n"}


def handshake(directory: Path, authority: Path, name: str) -> str:
    """Connect to a server that holds postgres's certificate, trusting `authority`; answers the verified name."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(directory / "postgres.crt", directory / "postgres.key")
    client_context = ssl.create_default_context(cafile=str(authority))
    # The default from Python 3.13 on, which is what the image runs.
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    left, right = socket.socketpair()

    def serve() -> None:
        try:
            server_context.wrap_socket(left, server_side=True).close()
        except OSError:
            left.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client_context.wrap_socket(right, server_hostname=name) as connection:
            peer: Any = connection.getpeercert()
            return str(dict(pair for part in peer["subject"] for pair in part)["commonName"])
    finally:
        right.close()
        thread.join()


def serial(directory: Path, name: str) -> int:
    return x509.load_pem_x509_certificate((directory / f"{name}.crt").read_bytes()).serial_number


def test_certificates_are_accepted_under_strict_verification(tmp_path: Path) -> None:
    assert certificates.main(tmp_path) == ["ca", "postgres", "redis"]
    assert handshake(tmp_path, tmp_path / "ca.crt", "postgres") == "postgres"
    assert handshake(tmp_path, tmp_path / "ca.crt", "localhost") == "postgres"


def test_another_name_and_another_authority_are_refused(tmp_path: Path) -> None:
    certificates.main(tmp_path / "ours")
    certificates.main(tmp_path / "theirs")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(tmp_path / "ours", tmp_path / "ours" / "ca.crt", "redis")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path / "ours", tmp_path / "theirs" / "ca.crt", "postgres")


def test_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    certificates.main(tmp_path)
    keys = sorted(tmp_path.glob("*.key"))
    assert [key.stem for key in keys] == ["ca", "postgres", "redis"]
    for key in keys:
        assert stat.S_IMODE(key.stat().st_mode) == 0o600, "PostgreSQL refuses a key that others can read"


def test_second_run_changes_nothing(tmp_path: Path) -> None:
    certificates.main(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert certificates.main(tmp_path) == []
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_expiring_certificates_are_renewed_by_the_same_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates.main(tmp_path)
    authority, server = serial(tmp_path, "ca"), serial(tmp_path, "postgres")
    monkeypatch.setattr(certificates, "RENEW_BEFORE_DAYS", certificates.SERVER_DAYS + 1)
    assert certificates.main(tmp_path) == ["postgres", "redis"]
    assert (serial(tmp_path, "ca"), serial(tmp_path, "postgres") == server) == (authority, False)
    assert handshake(tmp_path, tmp_path / "ca.crt", "postgres") == "postgres"


def test_expired_authority_takes_its_certificates_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates.main(tmp_path)
    monkeypatch.setattr(certificates, "RENEW_BEFORE_DAYS", certificates.AUTHORITY_DAYS + 1)
    assert certificates.main(tmp_path) == ["ca", "postgres", "redis"]


@pytest.fixture(scope="module")
def initialized(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A fresh cluster on which compose's init script has run, as the official image runs it."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("init"), durable=False) as server:
        server.psql("CREATE DATABASE ballast")
        environment = {
            "PATH": f"{binary('psql').parent}:{os.environ['PATH']}",
            "PGHOST": server.host,
            "PGPORT": str(server.port),
            "PGPASSWORD": server.password("postgres"),
            "POSTGRES_DB": "ballast",
            "ROLES_SQL": str(ROOT / "infra" / "postgres" / "roles.sql"),
            **{f"BALLAST_{role.upper()}_PASSWORD": password for role, password in PASSWORDS.items()},
        }
        script = ROOT / "infra" / "compose" / "postgres-init.sh"
        done = subprocess.run([shutil.which("sh") or "sh", script], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        yield server


@pytest.mark.parametrize("role", PASSWORDS)
async def test_each_role_has_the_password_from_the_environment(initialized: EmbeddedPostgres, role: str) -> None:
    target = {"host": initialized.host, "port": initialized.port, "user": f"ballast_{role}", "database": "ballast"}
    connection = await asyncpg.connect(**target, password=PASSWORDS[role])
    assert await connection.fetchval("SELECT current_user") == f"ballast_{role}"
    assert await connection.fetchval("SELECT rolbypassrls FROM pg_roles WHERE rolname = current_user") is False
    await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(**target, password=PASSWORDS["app"] + "x")


async def test_init_stops_at_the_first_error_instead_of_starting_without_roles(initialized: EmbeddedPostgres) -> None:
    done = subprocess.run(
        ["sh", ROOT / "infra" / "compose" / "postgres-init.sh"],
        env={"PATH": f"{binary('psql').parent}:{os.environ['PATH']}", "POSTGRES_DB": "ballast", "ROLES_SQL": "/nowhere"}
        | {"PGHOST": initialized.host, "PGPORT": str(initialized.port), "PGPASSWORD": initialized.password("postgres")},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0


def ask_worker_health(server: EmbeddedPostgres) -> tuple[int, str]:
    """Run the health check of the worker's container; answers its exit code and what it printed."""
    password = quote(PASSWORDS["maintenance"], safe="")
    url = f"postgresql://ballast_maintenance:{password}@{server.host}:{server.port}/ballast"
    script = ROOT / "infra" / "compose" / "worker_alive.py"
    done = subprocess.run(
        [sys.executable, script], env={"DATABASE_MAINTENANCE_URL": url}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.strip()


def test_worker_is_healthy_only_while_one_reports(initialized: EmbeddedPostgres) -> None:
    table = CreateTable(cast("Table", WorkerHeartbeat.__table__)).compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
    initialized.psql(f"{table}; GRANT SELECT ON worker_heartbeats TO ballast_maintenance", "ballast")
    assert ask_worker_health(initialized) == (1, "last report inf s ago")
    report = "INSERT INTO worker_heartbeats VALUES (gen_random_uuid(), now() - interval '{} seconds', 0)"
    initialized.psql(report.format(90), "ballast")
    assert ask_worker_health(initialized)[0] == 1
    initialized.psql(report.format(5), "ballast")
    assert ask_worker_health(initialized)[0] == 0


def test_worker_that_cannot_reach_the_database_is_not_healthy(initialized: EmbeddedPostgres) -> None:
    initialized.psql("REVOKE CONNECT ON DATABASE ballast FROM ballast_maintenance")
    try:
        assert ask_worker_health(initialized) == (1, "")
    finally:
        initialized.psql("GRANT CONNECT ON DATABASE ballast TO ballast_maintenance")
