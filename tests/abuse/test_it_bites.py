"""A naive application, attacked with the same tools: each of its faults is found and named."""

from __future__ import annotations

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from tests.abuse.forms import forms_in
from tests.abuse.judge import Sent, complaints
from tests.abuse.payloads import MARK, PRODUCT, TEXTS
from tests.abuse.test_operations import spoilt
from tests.support.headers import PROMISED

CANARY = "canary-of-somebody-else"


def naive() -> FastAPI:
    app, inner = FastAPI(), APIRouter()

    @inner.post("/echo")
    async def echo(request: Request) -> Response:
        return HTMLResponse(f"<p role=alert>Not: {(await request.body()).decode()}</p>", 422)

    @inner.post("/crash")
    async def crash() -> Response:
        return JSONResponse({"detail": "Traceback (most recent call last): asyncpg.exceptions"}, 500)

    @inner.post("/silent")
    async def silent() -> Response:
        return HTMLResponse("<p>No.</p>", 400)

    @inner.post("/obedient")
    async def obedient() -> Response:
        return HTMLResponse("Done.", 200)

    @inner.post("/template")
    async def template() -> Response:
        return HTMLResponse(PRODUCT, 200)

    @inner.post("/open")
    async def leads_away() -> Response:
        return RedirectResponse("https://attacker.example/", 303)

    @inner.post("/leaky")
    async def leaky() -> Response:
        return HTMLResponse(f"<li>{CANARY}</li>", 200)

    @inner.post("/cookie")
    async def cookie() -> Response:
        return Response("", 204, {"set-cookie": f"name={MARK}"})

    app.include_router(inner, prefix="/inner")

    @app.middleware("http")
    async def headers(request: Request, call_next: object) -> Response:
        answer: Response = await call_next(request)  # type: ignore[operator]
        if request.url.path != "/inner/silent":
            answer.headers.update(dict.fromkeys(PROMISED, "no-store"))
        return answer

    return app


@pytest.mark.parametrize(
    ("path", "strict", "finding"),
    [
        ("echo", False, "as markup"),
        ("crash", False, "answered 500"),
        ("crash", False, "tells of the inside"),
        ("silent", False, "without saying how to mend it"),
        ("silent", False, "lacks ['content-security-policy'"),
        ("obedient", False, "took it (200"),
        ("obedient", False, "x-frame-options (it is 'no-store')"),
        ("template", False, "worked out a template"),
        ("open", False, "leads to https://attacker.example/"),
        ("open", True, "took it (303"),
        ("leaky", False, "shows what belongs to somebody else"),
        ("cookie", False, "sets a cookie that was sent in"),
    ],
)
async def test_each_fault_of_a_naive_route_is_named(path: str, strict: bool, finding: str) -> None:
    transport = httpx.ASGITransport(naive())
    async with httpx.AsyncClient(transport=transport, base_url="http://naive.example") as client:
        answer = await client.post(f"/inner/{path}", content=TEXTS["HTML"])
    found = complaints(answer, Sent(path, "probe", strict=strict), (CANARY,))
    assert any(finding in one for one in found), found


def test_a_model_that_takes_anything_gets_through_nothing() -> None:
    """Each kind of field yields its wrong values, however deep it lies."""
    parts = {"Thing": {"type": "object", "properties": {"at": {"type": "string", "format": "date-time"}}}}
    schema = {
        "type": "object", "additionalProperties": False, "required": ["name"],
        "properties": {
            "name": {"type": "string", "maxLength": 5}, "count": {"type": "integer"},
            "things": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}},
        },
    }  # fmt: skip
    body = {"name": "x", "count": 1, "things": [{"at": "2026-01-01T00:00:00Z"}]}
    made = dict(spoilt(body, schema, parts))
    assert made[".name is one character too many"]["name"] == "xxxxxx"
    assert made[".count is NaN"]["count"] == "NaN"
    assert made[".things[0].at is SQL"]["things"][0]["at"] == TEXTS["SQL"]
    assert " without name" in made
    assert " with a field more" in made
    assert len(made) >= 30


def test_a_form_is_read_as_a_browser_would() -> None:
    [form] = forms_in(
        '<form method="get" action="/find"><input name="q"></form><form method="post" action="/a?b=1&amp;c=2">'
        '<input type="hidden" name="csrf" value="t"><input name="name" value="&lt;b&gt;">'
        '<textarea name="note"></textarea>'
        '<input type="checkbox" name="on" value="on"><select name="kind"><option value="x"><option value="y" selected>'
        "</select></form>"
    )
    assert form.action == "/a?b=1&c=2"
    assert form.values == {"csrf": "t", "name": "<b>", "note": "", "kind": "y"}
    assert (form.typed, form.own) == (["name", "note"], ["name", "note", "on", "kind"])
