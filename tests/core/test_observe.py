"""Every request leaves one line, one measurement and one id, under the route's template and never under its path."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import generate_latest

from service.core import telemetry
from service.core.ids import new_id
from service.core.settings import Settings
from service.guardrails.permissions import Role
from service.guardrails.sessions import cookie_name
from tests.support.client import Client
from tests.support.factories import Factory
from tests.support.processes import started


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
    async with asyncio.timeout(30):  # counted when the answer is under way
        while f'route="{route}"' not in labels():
            await asyncio.sleep(0.01)
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


async def lines_of(log: Path, count: int) -> list[dict[str, Any]]:
    """The request lines of a process, as soon as there are so many: a line is written after its answer was sent."""
    async with asyncio.timeout(60):
        while True:
            found = [orjson.loads(line) for line in log.read_bytes().rpartition(b"\n")[0].splitlines()]
            if len(requests := [line for line in found if line["event"] == "request"]) >= count:
                return requests
            await asyncio.sleep(0.02)


async def test_one_json_line_per_request(settings: Settings, factory: Factory, tmp_path: Path) -> None:
    """Whoever asks and however it ends: what an investigator searches by is on the line, and nothing else is."""
    person = await factory.person(Role.MEMBER)
    token, _ = await factory.log_in(person)
    log = tmp_path / "stdout"
    async with started("serve", log) as (_, http):
        cookie = {"cookie": f"{cookie_name(settings)}={token}"}
        answers = [
            await http.get("/indicators?q=secret", headers=cookie),
            await http.get("/login"),
            await http.get("/account"),
            await http.get("/no-such-page/secret"),
            await http.get("/login", headers={"host": "evil.test"}),
        ]
        lines = await lines_of(log, len(answers))
    assert [answer.status_code for answer in answers] == [200, 200, 303, 404, 400]
    mine = (f"user:{person.id}", str(person.organization_id))
    seen = [((line["actor"], line["organization"]), line["route"], line["status"]) for line in lines]
    assert seen == [
        (mine, "/indicators", 200),
        (("anonymous", ""), "/login", 200),
        (("anonymous", ""), "/account", 303),
        (("anonymous", ""), "unmatched", 404),
        (("anonymous", ""), "unmatched", 400),
    ]
    for line, answer in zip(lines, answers, strict=True):
        assert line["request_id"] == answer.headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]{32}", line["trace_id"])
        assert 0 < line["duration_ms"] < 20_000
        assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta()
        assert set(line) == {
            "event", "level", "timestamp", "request_id", "trace_id", "actor", "organization", "method", "route",
            "status", "duration_ms",
        }  # fmt: skip
    assert len({line["trace_id"] for line in lines}) == len(lines)
    assert b"secret" not in log.read_bytes()


async def test_what_is_asked_in_an_address_stays_out_of_log_and_trace(
    settings: Settings, factory: Factory, superuser: asyncpg.Connection[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """Staff search people by e-mail address; where requests are written down, it is not."""
    staff, sought = await factory.person(staff=True), f"canary{new_id().hex[-12:]}@example.com"
    why = {"next": "/staff/people", "reason": "They rang, ticket 4711"}
    exporter = InMemorySpanExporter()
    async with await factory.client(staff, "password", "totp") as office:
        assert (await office.submit("/staff/reasons", page="/staff", **why)).status_code == 303
        telemetry.configure_tracing(settings.model_copy(update={"trace_sample_ratio": 1.0}), exporter)
        try:
            found = await office.get("/staff/people", params={"q": sought})
            assert found.status_code == 200
            assert sought in found.text, "it was asked"
            assert (found.headers["cache-control"], found.headers["referrer-policy"]) == ("no-store", "same-origin")
            async with asyncio.timeout(30):  # a span ends when the answer is under way
                while "GET /staff/people" not in {span.name for span in exporter.get_finished_spans()}:
                    await asyncio.sleep(0.01)
        finally:
            await telemetry.stop_tracing()
            telemetry.configure_tracing(settings)
    assert "canary" not in "".join(span.to_json() for span in exporter.get_finished_spans())
    assert "canary" not in "".join(capfd.readouterr())
    noted = "SELECT count(*) FILTER (WHERE log::text LIKE $2), count(*) FROM audit_log log WHERE actor_id = $1"
    told, rows = await superuser.fetchrow(noted, staff.id, f"%{sought}%")
    assert (told, rows >= 2) == (0, True), "the audit log knows that somebody looked"


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
