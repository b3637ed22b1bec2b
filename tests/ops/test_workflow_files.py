"""The workflows: least privilege, pinned by commit, and nothing in them that a laptop cannot run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"^\s*-?\s*uses:\s+[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
SUPPORTED = ["3.11", "3.12", "3.13"]
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    # YAML 1.1 reads the bare word `on` as true; keep words words.
    loaded: dict[str, Any] = yaml.load(path.read_text(), Loader=yaml.BaseLoader)
    return loaded


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


def test_the_scan_sees_the_workflows() -> None:
    assert {path.stem for path in FILES} == {"ci", "image", "nightly", "security"}
    assert sum(len(steps(path)) for path in FILES) >= 15


@each_file
def test_actions_are_pinned_by_commit_and_name_their_version(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if re.match(r"^\s*-?\s*uses:", line)]
    assert lines
    for line in lines:
        assert PINNED.match(line), f"{line.strip()}: a tag can be moved to other code; pin the commit, name the version"


@each_file
def test_rights_are_none_by_default_and_reading_per_job(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        assert job["permissions"] == {"contents": "read"}, f"{name}: nothing here needs to write"
        assert int(job["timeout-minutes"]) <= 30, f"{name}: a hung job costs six hours by default"
        assert re.match(r"^ubuntu-\d\d\.04$", job["runs-on"]), f"{name}: `latest` changes under us"
    assert "pull_request_target" not in workflow["on"], "it gives a stranger's code our rights"
    assert "secrets." not in path.read_text()


@each_file
def test_older_runs_of_a_pull_request_are_cancelled(path: Path) -> None:
    concurrency = read(path)["concurrency"]
    assert "${{ github.ref }}" in concurrency["group"]
    assert "pull_request" in concurrency["cancel-in-progress"], "on main every commit must get its verdict"


@each_file
def test_checkout_leaves_no_token_behind(path: Path) -> None:
    checkouts = [step for step in steps(path) if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) == len(read(path)["jobs"])
    for step in checkouts:
        assert step["with"]["persist-credentials"] == "false"


@each_file
def test_steps_only_call_make(path: Path) -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [step["run"] for step in steps(path) if "run" in step]
    assert commands
    for command in commands:
        match = re.fullmatch(r"make ([a-z][\w-]*)", command)
        assert match, f"{command!r}: put it into the Makefile, so that a laptop can run it too"
        assert match[1] in targets, f"the Makefile has no target {match[1]}"


def test_all_supported_versions_are_tested() -> None:
    job = read(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == SUPPORTED
    assert job["strategy"]["fail-fast"] == "false"
    assert read(ROOT / ".github" / "workflows" / "ci.yml")["env"]["BALLAST_PYTHON"] == "python3"
    assert "${BALLAST_PYTHON:-} python3" in (ROOT / "infra" / "make" / "bootstrap.sh").read_text(), (
        "the newest Python on the runner would be tested under three names"
    )
    assert f'requires-python = ">={SUPPORTED[0]}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    "command",
    [
        ["zizmor", "--offline", "--no-progress", "--persona", "pedantic", ".github"],
        ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, FILES)],
        ["check-jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml"],
    ],
    ids=["zizmor", "workflow-schema", "dependabot-schema"],
)
def test_linters_find_nothing(command: list[str]) -> None:
    done = subprocess.run([TOOLS / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
