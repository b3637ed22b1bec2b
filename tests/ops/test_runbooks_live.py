"""The runbooks against the running product and real faults: silent when all is well, right when it is not.

One stack for all of it, because a start with its demo data is what costs; each fault is undone before the next. A page
names its fault in `drill`, and what is run here is found by that name. `make gameday` drills every page, or those that
PAGES names; `make test` the two whose faults come from outside.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest

from infra.sandbox.configuration import DEFAULT_PORTS
from infra.sandbox.ports import free_port
from infra.sandbox.processes import wait_until
from ops import local
from ops.runbook import execute
from tests.ops.faults import FAULTS, PAGES, ROOT, Stack, drills, matching, names

READY_SECONDS = 240


@contextmanager
def product(home: Path) -> Iterator[str]:
    """`make run` in a home of its own, on ports of its own; answers its address."""
    ports = {name: free_port() for name in DEFAULT_PORTS}
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    asked = {f"BALLAST_{name.upper()}_PORT": str(port) for name, port in ports.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.sandbox.run"],
        cwd=ROOT,
        env=kept | asked | {"BALLAST_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    address = f"http://127.0.0.1:{ports['app']}"

    def answers() -> bool:
        try:
            return httpx.get(f"{address}/readyz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    try:
        wait_until(lambda: process.poll() is not None or answers(), timeout=READY_SECONDS, every=0.2)
        assert process.poll() is None, process.communicate(timeout=10)[0]
        assert answers()
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


IN_SHORT = ("pause redis", "Stripe answers 500")


def wanted(pages: str) -> list[str]:
    """The faults of the pages that are named, of all, or of those that are cheap."""
    if not pages:
        return list(IN_SHORT)
    return [fault for fault in FAULTS if pages == "all" or drills()[fault] in pages.split()]


def test_each_page_names_a_fault_that_is_drilled_here() -> None:
    assert len(PAGES) >= 8
    assert sorted(drills()) == sorted(FAULTS), "a page's `drill.fault` is a key of FAULTS; a new page needs its fault"
    assert len(drills()) == len(PAGES), "two pages name the same fault"
    assert [name for name, page in PAGES.items() if "load" in page.front["drill"]] == [
        drills()["a session holds alembic_version locked"]
    ], "only this drill puts a load on"


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_pages_tell_faults_from_health_and_cure_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALLAST_HOME", str(tmp_path))
    monkeypatch.setenv("STACK", "local")
    faults = wanted(os.environ.get("BALLAST_GAMEDAY", ""))
    assert faults, "BALLAST_GAMEDAY names no page of ops/runbooks"
    with product(tmp_path) as address:
        for name in (drills()[fault] for fault in faults):
            assert matching(name, "diagnose") == set(), "a step that always matches diagnoses nothing"
            assert matching(name, "verify", patience=60) == names(name, "verify")

        url = local.as_superuser(local.environment()).url("postgres", "ballast")
        stack = Stack(address, *[await asyncpg.connect(url) for _ in range(3)])
        for forgetful in (stack.blocker, stack.idler):
            await forgetful.execute("BEGIN; SELECT 1")
        for fault in faults:
            name = drills()[fault]
            await FAULTS[fault](stack, name)
            assert matching(name, "verify", patience=60) == names(name, "verify")
        for connection in (stack.superuser, stack.blocker, stack.idler):
            connection.terminate()

        restart = PAGES["RedisLost"].of("remediate")[0]
        told = execute(restart, ["STACK", "BALLAST_HOME"])
        assert (told.matched, told.code) == (False, 1)
        assert "Ctrl-C in its terminal, then `make run` again" in told.output


def test_without_a_running_stack_the_tool_says_what_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALLAST_HOME", str(tmp_path))
    done = subprocess.run(["ops/on", "state", "app"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "ops/on: `make run` does not run in this clone; start it, or set STACK=compose\n"


@pytest.mark.parametrize(
    ("stack", "words", "sentence"),
    [
        ("local", ["nonsense", "x"], "unknown word nonsense"),
        ("compose", ["nonsense", "x"], "unknown word nonsense"),
        ("moon", ["state", "app"], "STACK is 'moon'; it must be local or compose"),
        ("local", ["state"], "ops/on state worker"),
        ("local", ["state", "nothing"], "there is no nothing; the parts are app, worker, redis, postgres"),
    ],
)
def test_wrong_words_get_one_sentence(stack: str, words: list[str], sentence: str) -> None:
    done = subprocess.run(
        ["ops/on", *words], cwd=ROOT, env=os.environ | {"STACK": stack}, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
