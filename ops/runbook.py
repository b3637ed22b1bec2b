"""Read a runbook and run its steps, so that on-call and tests execute the very commands the page shows.

    python -m ops.runbook RedisLost diagnose      run the diagnose steps and say which of them match
    python -m ops.runbook RedisLost remediate     one step after the other, asking before each

A step is a fenced block: ```bash {name=ping run=diagnose expect="lost"}. `expect` is a regular expression over what it
prints; a diagnose step matches when the fault is there, a verify step when the service is well.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
RUNBOOKS = ROOT / "ops" / "runbooks"
KINDS = ("diagnose", "remediate", "verify")
FENCE = re.compile(r"^```(\w+)(?: \{([^\n]*)\})?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
RETRY_SECONDS = 0.5
STEP_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Step:
    """One executable block."""

    name: str
    run: str
    script: str
    section: str
    expect: str | None = None
    expect_rc: int = 0
    retry: int = 0
    risk: str | None = None
    undo: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step printed (stdout and stderr together), and whether that is what it expects."""

    output: str
    code: int
    matched: bool


@dataclass(frozen=True, slots=True)
class Runbook:
    """One page: its front matter, its headings in order, its steps."""

    path: Path
    front: dict[str, Any]
    sections: tuple[str, ...]
    steps: tuple[Step, ...]

    def of(self, kind: str) -> list[Step]:
        return [step for step in self.steps if step.run == kind]


def load(path: Path) -> Runbook:
    """Parse a page. Raises ValueError naming the page and what is wrong with it."""
    text = path.read_text()
    parts = text.split("---\n", 2)
    if len(parts) != 3 or parts[0]:
        raise ValueError(f"{path.name}: must begin with front matter between two --- lines")
    body = parts[2]
    headings = [(match.start(), match[1]) for match in HEADING.finditer(body)]
    steps = []
    for block in FENCE.finditer(body):
        if block[1] not in {"bash", "sh"}:
            continue
        section = next((name for at, name in reversed(headings) if at < block.start()), "")
        steps.append(_step(path, section, block[2] or "", block[3]))
    return Runbook(path, yaml.safe_load(parts[1]), tuple(name for _, name in headings), tuple(steps))


def load_all() -> list[Runbook]:
    return [load(path) for path in sorted(RUNBOOKS.glob("*.md"))]


def execute(step: Step, needs: list[str]) -> Outcome:
    """Run one step as `bash -euo pipefail`, with nothing in its environment but PATH, HOME and what the page needs."""
    allowed = {"PATH", "HOME", *needs}
    environment = {name: value for name, value in os.environ.items() if name in allowed}
    for attempt in range(step.retry + 1):
        if attempt:
            time.sleep(RETRY_SECONDS)
        done = subprocess.run(  # noqa: S603 - the page's own commands
            ["bash", "-euo", "pipefail", "-c", step.script],  # noqa: S607
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=STEP_TIMEOUT,
            check=False,
        )
        found = step.expect is None or re.search(step.expect, done.stdout, re.MULTILINE) is not None
        if found and done.returncode == step.expect_rc:
            return Outcome(done.stdout, done.returncode, matched=True)
    return Outcome(done.stdout, done.returncode, matched=False)


def _step(path: Path, section: str, attributes: str, script: str) -> Step:
    try:
        values = dict(word.split("=", 1) for word in shlex.split(attributes))
        return Step(
            name=values.pop("name"),
            run=values.pop("run"),
            script=script,
            section=section,
            expect=values.pop("expect", None),
            expect_rc=int(values.pop("expect_rc", "0")),
            retry=int(values.pop("retry", "0")),
            **values,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name}, section {section}: the block {{{attributes}}} is malformed: {error}") from error


def main(name: str, kind: str) -> int:
    """Run every step of one kind; exit code 0 when all of them matched."""
    page = RUNBOOKS / f"{name}.md"
    if not page.exists() or kind not in KINDS:
        known = ", ".join(path.stem for path in sorted(RUNBOOKS.glob("*.md")))
        print(f"usage: python -m ops.runbook NAME {'|'.join(KINDS)}; NAME is one of {known}", file=sys.stderr)
        return 64
    runbook = load(page)
    missed = 0
    for step in runbook.of(kind):
        print(
            f"\n== {step.name}{f' (risk {step.risk}, undo {step.undo})' if step.risk else ''}\n{step.script.rstrip()}"
        )
        if kind == "remediate" and input("run this? [y/N] ").strip().lower() != "y":
            continue
        outcome = execute(step, runbook.front["needs"])
        missed += not outcome.matched
        print(f"{outcome.output.rstrip()}\n-- {'matches' if outcome.matched else 'does not match'} {step.expect or ''}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 3 else main("", ""))
