"""`make check`: every static check, side by side; prints one line each, and what a failing one said.

A check that finds nothing to look at fails: a renamed folder must not turn a gate into a decoration.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Check:
    """One tool, its arguments, and the files it is there for."""

    name: str
    command: Sequence[str]
    files: Sequence[str]
    names_files: bool = True  # does the tool take the files as arguments?


@dataclass(frozen=True)
class Verdict:
    check: Check
    passed: bool
    output: str
    seconds: float


def checks() -> list[Check]:
    """Slowest first, so that the quick ones fill the gaps."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    files = [name for name in listed if (ROOT / name).is_file()]

    def ending(*suffixes: str, under: str = "") -> list[str]:
        return [name for name in files if name.endswith(suffixes) and name.startswith(under)]

    python = ending(".py")
    shell = [name for name in files if name.endswith(".sh") or name in {".ci/run", "ops/on"}]
    workflows = ending(".yml", ".yaml", under=".github/workflows/")
    dependabot = ending("dependabot.yml", under=".github/")
    compose = [name for name in files if Path(name).name.startswith("compose") and name.endswith((".yml", ".yaml"))]
    migrations = ending(".py", under="migrations/versions/")
    images = [name for name in files if Path(name).name.startswith("Dockerfile")]
    schema = ("check-jsonschema", "--builtin-schema")
    return [
        Check("types", ["mypy", "--strict", "--explicit-package-bases", *_typed(python)], python, names_files=False),
        Check("migrations", ["python", "infra/make/lint_migrations.py"], migrations, names_files=False),
        Check("settings", ["python", "-m", "service", "settings", "--check"], [".env.example"]),
        Check("imports", ["lint-imports", "--no-cache"], ending(".py", under="service/"), names_files=False),
        Check("workflow schema", [*schema, "vendor.github-workflows"], workflows),
        Check("compose schema", [*schema, "vendor.compose-spec"], compose),
        Check("update schema", [*schema, "vendor.dependabot"], dependabot),
        Check("workflow security", ["zizmor", "--offline", "--quiet", "--no-progress"], workflows),
        Check("shell", ["shellcheck"], shell),
        Check("image", ["hadolint"], images),
        Check("lint", ["ruff", "check", "--quiet", "."], python, names_files=False),
        Check("format", ["ruff", "format", "--check", "--quiet", "."], python, names_files=False),
    ]


def _typed(python: Sequence[str]) -> list[str]:
    """Every folder that holds Python, tests included; only migrations have names that are no module names."""
    return sorted({name.split("/", 1)[0] for name in python if "/" in name} - {"migrations"})


def run(check: Check) -> Verdict:
    began = time.monotonic()
    if not check.files:
        return Verdict(check, False, "found nothing to check: were its files moved?", 0)
    command = [str(BIN / check.command[0]), *check.command[1:], *(check.files if check.names_files else ())]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    return Verdict(check, done.returncode == 0, done.stdout + done.stderr, time.monotonic() - began)


def standard() -> str:
    """How much of the verification standard is proved, and what is said not to apply; tests judge the evidence."""
    with (ROOT / "docs" / "compliance" / "asvs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    said = []
    for level in ("L1", "L2", "L3"):
        asked = [row for row in rows if row["level"] == level and row["applies"] in ("yes", "config")]
        said.append(f"{level} {sum(bool(row['evidence']) for row in asked)} of {len(asked)}")
    return f"Verification standard (ASVS 5.0), proved of what applies: {', '.join(said)}."


def main() -> int:
    began, failed = time.monotonic(), []
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
        for future in as_completed([pool.submit(run, check) for check in checks()]):
            verdict = future.result()
            word = "ok  " if verdict.passed else "FAIL"
            count = len(verdict.check.files)
            print(f"  {word} {verdict.seconds:5.1f} s  {verdict.check.name:<18} {count} files", flush=True)
            if not verdict.passed:
                failed.append(verdict)
    for verdict in failed:
        print(f"\n--- {verdict.check.name}\n{verdict.output.rstrip()}")
    print(f"\n{standard()}")
    print(
        f"{len(failed)} of the checks failed." if failed else f"All checks passed in {time.monotonic() - began:.1f} s."
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
