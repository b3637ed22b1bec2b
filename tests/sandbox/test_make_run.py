"""`make run` says in one sentence why it cannot start."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from infra.sandbox.configuration import DATABASE_URLS, DEFAULT_PORTS, choose_port, development_secrets
from infra.sandbox.errors import SandboxError
from infra.sandbox.locks import DirectoryLock
from infra.sandbox.ports import free_port
from tests.sandbox.launching import Start, ending, module


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


def test_a_database_of_ones_own_that_does_not_answer_is_no_reason_to_start_another(
    start: Start, tmp_path: Path
) -> None:
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
    for name, sentence in [("run", "already runs in this clone"), ("reset", "Ballast is running")]:
        code, output = ending(start(*module(name)))
        assert code == 1
        assert f"{sentence} (pid 4242, http://127.0.0.1:8000)" in output
    lock.release()
    assert ending(start(*module("reset")))[0] == 0


def test_reset_wipes_everything(start: Start, tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "secrets.json").write_text("{}")
    assert ending(start(*module("reset")))[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_secrets_are_made_once_and_kept_private(tmp_path: Path) -> None:
    first = development_secrets(tmp_path)
    assert development_secrets(tmp_path) == first
    assert len(set(first.values())) == len(first) == 5
    assert (tmp_path / "secrets.json").stat().st_mode & 0o077 == 0
    (tmp_path / "secrets.json").write_text('{"SECRET_KEY": "from before there was a LOOKUP_KEY"}')
    older = development_secrets(tmp_path)
    assert older["LOOKUP_KEY"] == older["SECRET_KEY"], "keys and objections of before are found"
    (tmp_path / "secrets.json").write_text('{"SECRET_KEY": "half a fi')
    with pytest.raises(SandboxError, match="make reset"):
        development_secrets(tmp_path)
