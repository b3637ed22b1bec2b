"""`make run` says in one sentence why it cannot start, starts everything, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from infra.sandbox.configuration import DATABASE_URLS, DEFAULT_PORTS, ROOT, choose_port, development_secrets
from infra.sandbox.errors import SandboxError
from infra.sandbox.locks import DirectoryLock
from infra.sandbox.ports import free_port, is_free
from infra.sandbox.processes import command_line, wait_until

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def ports() -> dict[str, int]:
    return {name: free_port() for name in DEFAULT_PORTS}


@pytest.fixture
def start(tmp_path: Path, ports: dict[str, int]) -> Iterator[Start]:
    """Run the command behind `make run` in a home of its own; extra variables by keyword."""
    started = []

    def run(module: str = "run", **variables: str) -> subprocess.Popen[str]:
        inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        own = {f"BALLAST_{name.upper()}_PORT": str(port) for name, port in ports.items()}
        process = subprocess.Popen(
            [sys.executable, "-m", f"infra.sandbox.{module}"],
            cwd=ROOT,
            env=inherited | own | {"BALLAST_HOME": str(tmp_path)} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def ending(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def test_a_port_somebody_asked_for_is_refused_when_busy(start: Start, ports: dict[str, int]) -> None:
    with socket.create_server(("127.0.0.1", ports["postgres"])):
        code, output = ending(start())
    assert code == 1
    assert f"port {ports['postgres']} is in use by another program: stop it, or set BALLAST_POSTGRES_PORT" in output
    assert "Traceback" not in output


def test_a_busy_default_port_gives_way_to_the_next() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = other.getsockname()[1]
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(DEFAULT_PORTS, "app", busy)
            port, remark = choose_port("app", {}, set())
            again, _ = choose_port("app", {}, {port})
    assert port > busy
    assert again > port
    assert remark == f"(port {busy} is in use; set BALLAST_APP_PORT to choose)"


@pytest.mark.parametrize("nonsense", ["http", "0", "65536", "-1", "8000.5"])
def test_a_port_that_is_none_is_named(nonsense: str) -> None:
    with pytest.raises(SandboxError, match="BALLAST_APP_PORT must be a port number"):
        choose_port("app", {"BALLAST_APP_PORT": nonsense}, set())


def test_a_database_of_ones_own_needs_all_three_addresses(start: Start, tmp_path: Path) -> None:
    code, output = ending(start(DATABASE_URL="postgresql://a:b@127.0.0.1/c"))
    assert code == 1
    assert "DATABASE_OWNER_URL and DATABASE_MAINTENANCE_URL must be set too" in output
    assert not (tmp_path / "postgres").exists(), "nothing embedded starts"


def test_ones_own_databases_are_used_and_nothing_embedded_starts(start: Start, tmp_path: Path) -> None:
    nowhere = f"postgresql://a:b@127.0.0.1:{free_port()}/c"
    code, output = ending(start(**dict.fromkeys(DATABASE_URLS, nowhere), REDIS_URL="redis://127.0.0.1:1/0"))
    assert code == 1
    assert "migrate stopped with exit code 1" in output
    assert not (tmp_path / "postgres").exists()
    assert not (tmp_path / "redis").exists()
    assert output.rstrip().splitlines()[-1], "the end of the log is shown"


def test_production_settings_are_refused(start: Start) -> None:
    code, output = ending(start(ENVIRONMENT="production"))
    assert code == 1
    assert "make run is for development" in output


def test_a_second_start_in_the_same_clone_says_where_the_first_is(start: Start, tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    assert lock.acquire("pid 4242, http://127.0.0.1:8000")
    for module, sentence in [("run", "already runs in this clone"), ("reset", "Ballast is running")]:
        code, output = ending(start(module))
        assert code == 1
        assert f"{sentence} (pid 4242, http://127.0.0.1:8000)" in output
    lock.release()
    assert ending(start("reset"))[0] == 0


def test_reset_wipes_everything(start: Start, tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "secrets.json").write_text("{}")
    assert ending(start("reset"))[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_secrets_are_made_once_and_kept_private(tmp_path: Path) -> None:
    first = development_secrets(tmp_path)
    assert development_secrets(tmp_path) == first
    assert len(set(first.values())) == len(first) == 4
    assert (tmp_path / "secrets.json").stat().st_mode & 0o077 == 0
    (tmp_path / "secrets.json").write_text('{"SECRET_KEY": "half a fi')
    with pytest.raises(SandboxError, match="make reset"):
        development_secrets(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_whole_day(start: Start, tmp_path: Path, ports: dict[str, int]) -> None:
    """Start, use, lose the worker, start again on the same data, stop with Ctrl-C, leave nothing."""
    first = start()
    output = _until_ready(first)
    app = f"http://127.0.0.1:{ports['app']}"
    assert httpx.get(f"{app}/readyz").status_code == 200
    assert httpx.get(f"http://127.0.0.1:{ports['inbox']}/api/messages").status_code == 200
    logins = json.loads((tmp_path / "logins.json").read_text())["logins"]
    assert {"owner", "member", "viewer", "staff"} <= {one["role"] for one in logins}
    shown = [line.strip("| \n").split(maxsplit=2) for line in output.splitlines()]
    assert all([one["role"], one["email"], one["password"]] in shown for one in logins)
    made = (tmp_path / "secrets.json").read_text()

    second_code, second_output = ending(start())
    assert second_code == 1
    assert f"already runs in this clone (pid {first.pid}, {app})" in second_output

    os.kill(_child(first.pid, "service worker"), signal.SIGKILL)
    rest, _ = first.communicate(timeout=60)
    assert first.returncode == 1
    assert "worker stopped with exit code -9" in rest
    _assert_nothing_runs(tmp_path, ports)

    again = start()
    _until_ready(again)
    assert (tmp_path / "secrets.json").read_text() == made
    again.send_signal(signal.SIGINT)
    rest, _ = again.communicate(timeout=60)
    assert again.returncode == 0, rest
    stopped = [line.split(" s  ")[1] for line in rest.splitlines() if line.startswith("  stopped")]
    assert stopped == ["web", "worker", "Redis", "PostgreSQL", "stand-ins"], "in reverse order"
    _assert_nothing_runs(tmp_path, ports)


def _until_ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("| staff"):
            return "".join(lines)
    raise AssertionError("it did not become ready:\n" + "".join(lines))


def _child(parent: int, words: str) -> int:
    from infra.sandbox.processes import children_of

    return next(pid for pid in children_of(parent) if words in command_line(pid))


def _assert_nothing_runs(home: Path, ports: dict[str, int]) -> None:
    assert wait_until(lambda: all(is_free(port) for port in ports.values()), timeout=5)
    left = [line for pid in _every_process() if str(home) in (line := command_line(pid))]
    assert left == []


def _every_process() -> list[int]:
    listed = subprocess.run(["ps", "-axo", "pid="], capture_output=True, text=True, check=True).stdout
    return [int(word) for word in listed.split()]
