"""Fixtures for the sandbox's own tests: directories, launchers in another process, stand-ins."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from infra.sandbox.configuration import DEFAULT_PORTS
from infra.sandbox.mail import MailKnobs, MailSink
from infra.sandbox.oidc import OIDCProvider
from infra.sandbox.oidc_tokens import OIDCKnobs
from infra.sandbox.ports import free_port
from infra.sandbox.postgres import EmbeddedPostgres
from tests.sandbox.launching import Start, launch, module

ROOT = Path(__file__).resolve().parents[2]

# Prints the server's process id, then waits to be killed.
LAUNCHER = """
import sys, time
from infra.sandbox.{module} import {name}
server = {name}(sys.argv[1]).start()
print(server.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory after a first clean run; copying it is faster than making another."""
    directory = tmp_path_factory.mktemp("initialised")
    with EmbeddedPostgres(directory, durable=False):
        return directory


@pytest.fixture
def directory(initialised: Path, tmp_path: Path) -> Path:
    """A server directory that has been used before."""
    return Path(shutil.copytree(initialised, tmp_path / "server"))


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), durable=False) as server:
        yield server


@pytest.fixture
def launch_elsewhere() -> Iterator[Callable[[str, Path], tuple[subprocess.Popen[str], int]]]:
    """Start an embedded server from a process of its own; answers that process and the server's id."""
    launchers = []

    def launch(name: str, directory: Path) -> tuple[subprocess.Popen[str], int]:
        module = name.removeprefix("Embedded").lower()
        launcher = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER.format(module=module, name=name), str(directory)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        launchers.append(launcher)
        assert launcher.stdout
        return launcher, int(launcher.stdout.readline())

    yield launch
    for launcher in launchers:
        launcher.kill()
        launcher.communicate()


@pytest.fixture
def ports() -> dict[str, int]:
    return {name: free_port() for name in DEFAULT_PORTS}


@pytest.fixture
def start(tmp_path: Path, ports: dict[str, int]) -> Iterator[Start]:
    """Run the command behind `make run`, or another one, in a home of its own; extra variables by keyword."""
    started = []

    def run(*command: str, **variables: str) -> subprocess.Popen[str]:
        started.append(launch(tmp_path, ports, command or module("run"), variables))
        return started[-1]

    yield run
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout
        process.stdout.close()


@pytest.fixture(scope="module")
def running_mail_sink() -> Iterator[MailSink]:
    with MailSink() as sink:
        yield sink


@pytest.fixture
def mail(running_mail_sink: MailSink) -> MailSink:
    """An empty, healthy mail sink."""
    running_mail_sink.messages.clear()
    running_mail_sink.knobs = MailKnobs()
    return running_mail_sink


@pytest.fixture(scope="module")
def running_provider() -> Iterator[OIDCProvider]:
    with OIDCProvider() as provider:
        yield provider


@pytest.fixture
def provider(running_provider: OIDCProvider) -> OIDCProvider:
    """A healthy OpenID Connect provider."""
    running_provider.knobs = OIDCKnobs()
    return running_provider
