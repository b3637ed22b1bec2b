"""The embedded PostgreSQL and Redis start, stop, survive crashes and leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from infra.sandbox import as_user
from infra.sandbox.errors import PortBusy, SandboxError
from infra.sandbox.ports import is_free
from infra.sandbox.postgres import EmbeddedPostgres
from infra.sandbox.processes import children_of, command_line, wait_until
from infra.sandbox.redis import EmbeddedRedis

Kind = type[EmbeddedPostgres] | type[EmbeddedRedis]
SERVERS: list[Kind] = [EmbeddedPostgres, EmbeddedRedis]
Launch = Callable[[str, Path], tuple[subprocess.Popen[str], int]]


def is_gone(pid: int) -> bool:
    return not command_line(pid)


@pytest.mark.parametrize("kind", SERVERS)
def test_a_stopped_server_is_gone_and_its_port_is_free(kind: Kind, directory: Path) -> None:
    with kind(directory) as server:
        family = [server.pid, *children_of(server.pid)]
        assert not any(map(is_gone, family))
    assert all(map(is_gone, family))
    with pytest.raises(ConnectionRefusedError), socket.create_connection((server.host, server.port), timeout=1):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
@pytest.mark.parametrize("kind", SERVERS)
def test_a_killed_launcher_leaves_nothing_running(kind: Kind, directory: Path, launch_elsewhere: Launch) -> None:
    launcher, pid = launch_elsewhere(kind.__name__, directory)
    family = [pid, *children_of(pid)]
    assert not is_gone(pid)
    launcher.send_signal(signal.SIGKILL)
    assert wait_until(lambda: all(map(is_gone, family)), timeout=60), f"still running: {[*map(command_line, family)]}"
    with kind(directory) as server:  # and the directory is fit for the next start
        assert server.is_running


@pytest.mark.parametrize("kind", SERVERS)
def test_a_directory_belongs_to_one_launcher_at_a_time(kind: Kind, directory: Path, launch_elsewhere: Launch) -> None:
    launcher, pid = launch_elsewhere(kind.__name__, directory)
    with pytest.raises(SandboxError, match=rf"is in use \(pid {launcher.pid}\)"):
        kind(directory).start()
    assert not is_gone(pid)


@pytest.mark.parametrize("kind", SERVERS)
def test_a_busy_port_is_refused_in_one_sentence(kind: Kind, directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortBusy, match=f"port {port} for {kind.name} is in use"):
            kind(directory, port).start()
    with kind(directory, port) as server:
        assert server.port == port


@pytest.mark.parametrize("whose", ["nobody", "a stranger"])
def test_stale_pid_file_of_postgres_is_removed(whose: str, directory: Path) -> None:
    """After a lost machine it names a process that is gone, or one that got the number meanwhile."""
    with EmbeddedPostgres(directory, durable=False) as server:
        port = server.port
    pid_file = directory / "cluster" / "postmaster.pid"
    # PostgreSQL forgives its own parent's number, so a stranger's it must be.
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        if whose == "nobody":
            stranger.communicate(b"\n")
        pid_file.write_text(f"{stranger.pid}\n{directory / 'cluster'}\n1700000000\n{port}\n\n127.0.0.1\n")
        with EmbeddedPostgres(directory, port, durable=False) as server:
            assert int(pid_file.read_text().split()[0]) == server.pid
        if whose == "a stranger":
            assert stranger.poll() is None, "the stranger was left alone"
            stranger.communicate(b"\n")


@pytest.mark.parametrize("kind", SERVERS)
def test_orphan_of_a_dead_launcher_is_ended(kind: Kind, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does not tell children (macOS), the next start finds the old server and stops it."""
    monkeypatch.setattr("infra.sandbox.server.ORPHAN_GRACE", 0.2)
    orphan = kind(directory).start()
    orphan._lock.release()  # what the kernel does for a launcher that died
    old, port = orphan.pid, orphan.port
    server = kind(directory).claim()
    assert is_free(port), "whoever asks for this port gets it"
    server.port = port
    with server:
        assert orphan._process is not None
        orphan._process.wait(5)
        assert server.pid != old


@pytest.mark.parametrize("content", ["{dead}", "{stranger}", "", "nonsense"])
def test_a_pid_file_of_redis_that_names_nobody_of_ours_is_ignored(content: str, directory: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        assert wait_until(lambda: not is_gone(stranger.pid), timeout=60)
        (directory / "server.pid").write_text(content.format(dead=dead.pid, stranger=stranger.pid))
        with EmbeddedRedis(directory) as server:
            assert int((directory / "server.pid").read_text()) == server.pid
        assert stranger.poll() is None, "the stranger was left alone"
        stranger.communicate(b"\n")


def test_half_initialised_directory_is_started_over(tmp_path: Path) -> None:
    partial = tmp_path / "cluster.partial"
    partial.mkdir()
    (partial / "PG_VERSION").write_text("18\n")
    (tmp_path / "secret").write_bytes(b"of the interrupted try")
    with EmbeddedPostgres(tmp_path, durable=False) as server:
        assert server.psql("SELECT 1") == "1"
    assert not partial.exists()


def test_lost_secret_is_named(directory: Path) -> None:
    with EmbeddedPostgres(directory, durable=False):
        pass
    (directory / "secret").unlink()
    with pytest.raises(SandboxError, match="make reset"):
        EmbeddedPostgres(directory).start()


async def test_roles_own_only_what_they_should(postgres: EmbeddedPostgres) -> None:
    postgres.create_database("roles")
    postgres.psql("ALTER ROLE ballast_app BYPASSRLS CREATEDB; GRANT CREATE ON SCHEMA public TO ballast_app", "roles")
    postgres.create_database("roles")  # running it again mends what somebody loosened by hand
    rows = postgres.psql(
        "SELECT rolname, rolcanlogin, rolsuper OR rolbypassrls OR rolcreatedb OR rolcreaterole FROM pg_roles "
        "WHERE rolname LIKE 'ballast%' ORDER BY 1"
    )
    assert rows.splitlines() == ["ballast_app|t|f", "ballast_maintenance|t|f", "ballast_owner|t|f"]
    assert postgres.psql("SELECT datdba::regrole FROM pg_database WHERE datname = 'roles'") == "ballast_owner"

    owner = await asyncpg.connect(postgres.url("ballast_owner", "roles"))
    await owner.execute("CREATE TABLE thing (id int)")
    await owner.close()
    for role in ("ballast_app", "ballast_maintenance"):
        connection = await asyncpg.connect(postgres.url(role, "roles"))
        for statement in ("CREATE TABLE mine (id int)", "SELECT * FROM thing", "CREATE SCHEMA mine"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        await connection.close()


async def test_one_roles_password_does_not_open_anothers_door(postgres: EmbeddedPostgres) -> None:
    postgres.create_database("doors")
    url = postgres.url("ballast_owner", "doors").replace(
        postgres.password("ballast_owner"), postgres.password("ballast_app")
    )
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(url)


async def test_a_clone_carries_the_templates_rows(postgres: EmbeddedPostgres) -> None:
    postgres.create_database("original")
    postgres.psql("CREATE TABLE seen (id int); INSERT INTO seen VALUES (7)", "original")
    postgres.create_database("copy", template="original")
    assert postgres.psql("SELECT id FROM seen", "copy") == "7"
    postgres.drop_database("copy")
    assert postgres.psql("SELECT count(*) FROM pg_database WHERE datname = 'copy'") == "0"


async def test_postgres_hangs_when_paused_and_returns_after_a_kill(directory: Path) -> None:
    with EmbeddedPostgres(directory, durable=False) as server:
        server.create_database("shop")
        url = server.url("ballast_owner", "shop")
        connection = await asyncpg.connect(url)
        server.pause()
        with pytest.raises(TimeoutError):
            await connection.execute("SELECT 1", timeout=0.2)
        server.resume()
        connection.terminate()
        connection = await asyncpg.connect(url)
        server.kill()
        with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, ConnectionError)):
            await connection.execute("SELECT 1")
        connection.terminate()
        server.start()
        connection = await asyncpg.connect(url)  # same port, same password
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()


def test_redis_hangs_when_paused_and_keeps_its_data_over_a_restart(directory: Path) -> None:
    with EmbeddedRedis(directory, databases=40) as server:
        with Redis.from_url(server.url(39), socket_timeout=0.2, retry=None) as client:
            client.set("session", "kept")
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            server.pause()
            with pytest.raises(RedisTimeoutError):
                client.get("session")
            server.resume()
        server.stop()
        with Redis.from_url(server.url(39), socket_timeout=0.2, retry=None) as client:
            with pytest.raises(RedisConnectionError):
                client.get("session")
            server.start()
            assert client.get("session") == b"kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another way to run PostgreSQL")
@pytest.mark.parametrize("way", [as_user.IN_NAMESPACE, as_user.AS_NOBODY], ids=["namespace", "nobody"])
def test_root_has_two_ways(way: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that forbids user namespaces still runs PostgreSQL, even below a directory only root can enter."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(as_user, "_way", lambda: way)
    with EmbeddedPostgres(closed / "data", durable=False) as server:
        assert server.psql("SELECT 1") == "1"
        uid = Path(f"/proc/{server.pid}").stat().st_uid
        assert uid == (as_user.NOBODY if way is as_user.AS_NOBODY else 0)
