"""`make` explains itself, its gates cannot pass by finding nothing, and the browser is found or asked for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.make.check import Check, checks, run
from infra.make.migration import revision_id
from infra.sandbox.configuration import ROOT


def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")} | variables
    return subprocess.run(["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_make_alone_prints_every_target_with_one_line() -> None:
    printed = re.findall(r"^  make ([a-z-]+) +(\S.*)$", make().stdout, re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    assert [name for name, _ in printed] == phony.group(1).split()
    assert {"run", "reset", "test", "check", "format", "bench", "screenshots", "migration"} <= {n for n, _ in printed}


def test_continuous_integration_runs_the_two_gates_and_nothing_else() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["make check", "make test"]
    assert "set -euo pipefail" in lines, "or a failing check would be followed by a passing test run"
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_a_gate_that_finds_nothing_to_check_fails() -> None:
    verdict = run(Check("shell", ["true"], []))
    assert not verdict.passed
    assert "found nothing to check" in verdict.output


def test_every_gate_has_something_to_check() -> None:
    seen = {check.name: len(check.files) for check in checks()}
    assert len(seen) == 12
    assert all(seen.values()), seen
    assert seen["types"] > 100
    assert seen["shell"] >= 8


def test_a_gate_fails_with_its_tool_and_shows_what_it_said(tmp_path: Path) -> None:
    script = tmp_path / "bad.sh"
    script.write_text("#!/bin/sh\necho $1\n")
    verdict = run(Check("shell", ["shellcheck"], [str(script)]))
    assert not verdict.passed
    assert "SC2086" in verdict.output


def test_a_browser_that_is_none_is_refused_by_name() -> None:
    done = make("browser", BALLAST_CHROMIUM="/nonexistent/chromium")
    assert done.returncode != 0
    assert "BALLAST_CHROMIUM is /nonexistent/chromium, which is not a program" in done.stderr


def test_the_browser_of_the_test_run_is_found() -> None:
    done = make("browser")
    assert done.returncode == 0, done.stderr
    assert os.access(done.stdout.strip(), os.X_OK)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE indicators ADD COLUMN colour varchar(20) NOT NULL;",
        "CREATE INDEX ix_readings_value ON readings (value);",
        "ALTER TABLE readings ALTER COLUMN value TYPE numeric(30, 4);",
        "ALTER TABLE readings ADD CONSTRAINT positive CHECK (value > 0);",
        "ALTER TABLE indicators DROP COLUMN name;",
    ],
)
def test_the_migration_linter_sees_what_would_stop_the_site(statement: str, tmp_path: Path) -> None:
    migration = tmp_path / "bad.sql"
    migration.write_text(f"BEGIN;\nSET lock_timeout = '1s';\nSET statement_timeout = '1s';\n{statement}\nCOMMIT;\n")
    squawk = Path(sys.executable).with_name("squawk")
    done = subprocess.run([squawk, "--config", ROOT / ".squawk.toml", migration], capture_output=True, check=False)
    assert done.returncode == 1, done.stdout.decode()


def test_a_migration_is_called_like_its_file() -> None:
    day = datetime(2026, 11, 22, tzinfo=UTC)
    assert revision_id("pre add colour", day) == "2026_11_22_pre_add_colour"
    with pytest.raises(SystemExit, match="Shorten NAME by 6 characters"):
        revision_id("post drop the colours again", day)


@pytest.mark.parametrize("name", ["", "add colour", "during add colour", "pre Add colour;"])
def test_a_migration_without_its_phase_is_refused(name: str) -> None:
    done = make("migration", f"NAME={name}")
    assert done.returncode != 0
    assert 'make migration NAME="pre add colour"' in done.stderr


def test_a_machine_without_a_fitting_python_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "infra/make").mkdir(parents=True)
    script = ROOT / "infra/make/bootstrap.sh"
    for name in ("python3.13", "python3.12", "python3.11", "python3"):
        old = tmp_path / name
        old.write_text("#!/bin/sh\nexit 1\n")
        old.chmod(0o755)
    done = subprocess.run(
        ["sh", str(script)],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "needs Python 3.11 or newer" in done.stderr
