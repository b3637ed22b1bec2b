"""The image's posture, read from the Dockerfile; building and starting it is `make image` and `make smoke`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest
from typer.main import get_command

from service.cli import cli

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent
SECRET = re.compile(r"SECRET|PASSWORD|PASSWD|TOKEN|CREDENTIAL|_KEY\b|\bKEY_", re.IGNORECASE)
EXACT = re.compile(r"^[\w./-]+:\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?$")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line of the Dockerfile, continuations joined; `stage` is None before the first FROM."""

    stage: str | None
    name: str
    words: str


def read_dockerfile(text: str) -> list[Instruction]:
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    stage: str | None = None
    found = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, words = line.partition(" ")
        if name == "FROM":
            stage = words.rsplit(" AS ", 1)[-1]
        found.append(Instruction(stage, name, words.strip()))
    return found


DOCKERFILE = read_dockerfile((ROOT / "Dockerfile").read_text())
LAST = [line for line in DOCKERFILE if line.stage == DOCKERFILE[-1].stage]


def last(name: str) -> str:
    """The words of the one instruction of that name in the image that is built by default."""
    found = [line.words for line in LAST if line.name == name]
    assert len(found) == 1, f"the runtime stage must have exactly one {name}"
    return found[0]


def test_the_scan_reads_the_file() -> None:
    assert len(DOCKERFILE) >= 20
    assert LAST[0].stage == "runtime", "a build without --target must give the runtime image"


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        [TOOLS / "hadolint", "--failure-threshold", "style", ROOT / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_base_is_one_exact_version() -> None:
    default = next(line.words for line in DOCKERFILE if line.name == "ARG" and line.stage is None)
    name, _, image = default.partition("=")
    assert EXACT.match(image), f"{image} is not an exact version"
    stages: set[str] = set()
    bases = [line.words for line in DOCKERFILE if line.name == "FROM"]
    assert len(bases) >= 3
    for words in bases:
        base, _, stage = words.partition(" AS ")
        assert base == f"${{{name}}}" or base in stages, f"FROM {base} is not pinned through {name}"
        stages.add(stage)


@pytest.mark.parametrize("stage", ["runtime", "sandbox"])
def test_runs_as_a_numbered_nobody(stage: str) -> None:
    users = [line.words for line in DOCKERFILE if line.stage == stage and line.name == "USER"]
    assert users == ["10001:10001"], "Kubernetes' runAsNonRoot can only check a number"


def test_no_secret_is_baked_in() -> None:
    lines = [line for line in DOCKERFILE if line.name in {"ENV", "ARG", "LABEL"}]
    assert len(lines) >= 5
    for line in lines:
        names = re.findall(r"([\w.-]+)=", line.words) or [line.words]
        assert not [name for name in names if SECRET.search(name)], f"{line.name} {line.words}: visible to all who pull"


def test_installs_the_lock_and_nothing_but_what_runs() -> None:
    runs = [line.words for line in DOCKERFILE if line.stage == "build" and line.name == "RUN"]
    assert any(re.search(r"\buv==\d+\.\d+\.\d+\b", words) for words in runs), "pin uv itself"
    sync = next(words for words in runs if "uv sync" in words)
    assert "--frozen" in sync
    assert "--no-default-groups" in sync
    assert not [
        line for line in LAST if line.name == "RUN" and re.search(r"\b(pip|uv|apt-get|curl|wget)\b", line.words)
    ]
    assert not [line for line in DOCKERFILE if line.name == "ADD"], "ADD unpacks and downloads; use COPY"


def test_health_check_asks_for_liveness_without_extra_tools() -> None:
    words = last("HEALTHCHECK")
    options, _, command = words.partition(" CMD ")
    assert {"--interval", "--timeout", "--start-period", "--retries"} == set(re.findall(r"--[\w-]+", options))
    argv = json.loads(command)
    assert argv[0] == "python"
    assert "/livez" in argv[-1], "readiness here would restart every instance when Redis is away"
    compile(argv[-1], "healthcheck", "exec")


def test_starts_and_stops_like_a_process_should() -> None:
    assert last("STOPSIGNAL") == "SIGTERM"
    assert json.loads(last("ENTRYPOINT")) == ["python", "-m", "service"], "a shell as process 1 would eat SIGTERM"
    command = json.loads(last("CMD"))
    commands = get_command(cli).commands  # type: ignore[attr-defined]
    assert {"serve", "worker", "migrate"} <= set(commands)
    options = {option for parameter in commands[command[0]].params for option in parameter.opts}
    assert {word for word in command if word.startswith("--")} <= options


def test_context_is_an_allow_list_and_holds_what_is_copied() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*", "deny first: a file nobody thought of must not reach an image"
    allowed = [line[1:] for line in lines if line.startswith("!")]
    denied = [line for line in lines[1:] if not line.startswith("!")]
    copied = [
        source
        for line in DOCKERFILE
        if line.name == "COPY" and "--from" not in line.words
        for source in line.words.split()[:-1]
    ]
    assert len(copied) >= 4
    for source in copied:
        assert source in allowed, f"COPY {source}: .dockerignore hides it"
        assert (ROOT / source).exists(), f"COPY {source}: no such file"
    assert set(allowed) <= set(copied), "allowed, but copied nowhere"
    for dangerous in ("infra/compose/.env", "service/.env", "infra/server.key", "service/core/__pycache__"):
        assert any(fnmatch(dangerous, rule.removeprefix("**/")) or fnmatch(dangerous, rule) for rule in denied), (
            dangerous
        )
