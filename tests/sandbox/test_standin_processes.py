"""The stand-ins as processes of their own: they answer, stop when told, and say why they cannot start."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import httpx
import pytest

from infra.sandbox.configuration import ROOT
from infra.sandbox.ports import free_port


def start(module: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


NAMES = "inbox smtp inbox-us smtp-us oidc stripe rates github plausible receiver scanner clamd sendgrid"
ALL_PORTS = tuple(f"--{name}-port" for name in NAMES.split())


@pytest.mark.parametrize(
    ("module", "ports", "lines"),
    [
        ("infra.sandbox", ALL_PORTS, 9),
        ("infra.sandbox.mail", ("--port", "--smtp-port"), 1),
        ("infra.sandbox.oidc", ("--port",), 1),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_and_stops_when_told(module: str, ports: tuple[str, ...], lines: int, number: int) -> None:
    process = start(module, *(word for flag in ports for word in (flag, str(free_port()))))
    assert process.stdout
    told = [process.stdout.readline() for _ in range(lines)]
    if not all(" on " in line for line in told):
        process.kill()
        pytest.fail(f"{told}, {process.communicate()}")
    addresses = [line.split(" on ")[1].strip() for line in told]
    assert [httpx.get(address).status_code for address in addresses] == [200] * lines
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


def test_a_busy_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        _, errors = start("infra.sandbox.oidc", "--port", str(port)).communicate(timeout=60)
    assert errors == f"port {port} on 127.0.0.1 is in use by another program\n"


def test_the_issuer_may_differ_from_where_it_listens() -> None:
    port = free_port()
    process = start("infra.sandbox.oidc", "--port", str(port), "--issuer", "http://oidc.localhost:8090")
    assert process.stdout
    process.stdout.readline()
    discovery = httpx.get(f"http://127.0.0.1:{port}/.well-known/openid-configuration").json()
    process.terminate()
    process.communicate(timeout=60)
    assert discovery["issuer"] == "http://oidc.localhost:8090"
    assert discovery["token_endpoint"] == "http://oidc.localhost:8090/token"
