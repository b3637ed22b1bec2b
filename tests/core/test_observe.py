"""Every request leaves one line, one measurement and one id, under the route's template and never under its path."""

from __future__ import annotations

import orjson
import pytest
from prometheus_client import generate_latest

from service.core import telemetry
from service.guardrails.permissions import Role
from tests.support.client import Client
from tests.support.factories import Factory


def labels() -> str:
    return generate_latest(telemetry.REGISTRY).decode()


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/dashboard", "/dashboard"),
        ("/api/v1/indicators", "/api/v1/indicators"),
        ("/api/v1/indicators/0199aaaa-0000-7000-8000-000000000000", "/api/v1/indicators/{indicator_id}"),
        ("/verify/a-secret-link", "/verify/{link}"),
        ("/livez", "/livez"),
        ("/no-such-page", "unmatched"),
    ],
)
async def test_measurements_carry_the_full_template(path: str, route: str, factory: Factory) -> None:
    async with await factory.client(await factory.person(Role.MEMBER)) as client:
        await client.get(path)
    assert f'route="{route}"' in labels()
    assert "a-secret-link" not in labels()


async def test_an_unknown_method_makes_no_label_of_its_own(factory: Factory) -> None:
    async with await factory.client() as client:
        await client.http.request("BREW", "/dashboard")
    assert "BREW" not in labels()


async def test_the_answer_names_the_request_and_a_stranger_cannot_choose_the_name(factory: Factory) -> None:
    async with await factory.client() as client:
        known = await client.get("/login", headers={"x-request-id": "from-our-proxy-1"})
        odd = await client.get("/login", headers={"x-request-id": "bad\tname"})
    assert known.headers["x-request-id"] == "from-our-proxy-1"
    assert odd.headers["x-request-id"] != "bad\tname"


async def test_one_json_line_per_request(factory: Factory, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """The tests log warnings only, so the line of a request is asked for from the pipeline itself."""
    from service.core.logging import redact, to_json

    line = to_json(redact(None, "info", {"event": "request", "route": "/login", "status": 200, "duration_ms": 1.5}))
    assert orjson.loads(line)["route"] == "/login"
    assert b"\n" not in line


async def test_a_server_error_shows_its_id_and_nothing_else(settings: object) -> None:
    import httpx
    from fastapi import FastAPI

    from service.core.observe import Observe
    from service.web.errors import install_error_handlers

    app = FastAPI()
    install_error_handlers(app, {})

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret detail")

    wrapped = Observe(app, lambda scope: "10.0.0.1", lambda scope: False, lambda scope: "/broken")
    transport = httpx.ASGITransport(wrapped)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        answer = await http.get("/broken", headers={"accept": "application/json"})
    assert answer.status_code == 500
    assert "secret detail" not in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_clients_in_the_tests_have_addresses_of_their_own() -> None:
    assert Client("http://127.0.0.1:1").address != Client("http://127.0.0.1:1").address
