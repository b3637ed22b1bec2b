"""A route that will go says so in every answer, and in the description that programs are generated from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from service.app import _add_routes, build, close_resources, route_names
from service.core.observe import Observe
from service.core.settings import Settings
from service.guardrails.browser import Shield
from service.guardrails.contexts import KeyCtx
from service.guardrails.deprecation import Deprecation, deprecated
from service.guardrails.permissions import Role
from service.web.errors import refusal
from tests.support.factories import Factory

probe = APIRouter()


@probe.get("/old")
@deprecated(since=date(2027, 1, 31), sunset=date(2027, 7, 31), link="/changes#old")
async def old(ctx: KeyCtx, number: int = 1) -> int:
    return number


@probe.get("/new")
async def new(ctx: KeyCtx) -> int:
    return 2


@pytest.fixture(scope="module")
async def http(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app: FastAPI = build(settings)
    _add_routes(app, probe, prefix="/api/v1/probe")
    shielded = Shield(app, settings, lambda scope, error: refusal(app, scope, error))
    wrapped = Observe(shielded, lambda scope: "10.9.8.7", lambda scope: True, route_names(app))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(wrapped), base_url=settings.base_url) as client:
        yield client
    await close_resources(app.state.resources)


async def test_every_answer_of_the_route_says_when_it_goes(http: httpx.AsyncClient, factory: Factory) -> None:
    key = {"authorization": f"Bearer {await factory.key(await factory.organization(), Role.OWNER)}"}
    answers = [
        await http.get("/api/v1/probe/old", headers=key),
        await http.get("/api/v1/probe/old", params={"number": "x"}, headers=key),
        await http.get("/api/v1/probe/old"),
    ]
    assert [answer.status_code for answer in answers] == [200, 422, 401]
    for answer in answers:
        assert answer.headers["deprecation"] == "@1801353600"
        assert answer.headers["sunset"] == "Sat, 31 Jul 2027 00:00:00 GMT"
        assert answer.headers["link"] == '</changes#old>; rel="deprecation"'
    current = await http.get("/api/v1/probe/new", headers=key)
    assert not {"deprecation", "sunset", "link"} & set(current.headers)


async def test_the_description_marks_it(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    assert paths["/api/v1/probe/old"]["get"]["deprecated"] is True
    assert "deprecated" not in paths["/api/v1/probe/new"]["get"]


def test_an_end_before_the_warning_does_not_load() -> None:
    with pytest.raises(ValueError, match="before the deprecation"):
        Deprecation(date(2027, 7, 31), date(2027, 1, 31), "/changes")
