"""What is measured: each case is the same work on the three servers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

import httpx

from load.bench.generator import COUNTER, Call
from load.bench.plant import EMAIL, PASSWORD, Planted
from load.bench.servers import Server
from service.app import close_resources, create_resources
from service.core import clock
from service.core.context import Caller
from service.core.settings import get_settings
from service.guardrails import sessions


@dataclass(frozen=True)
class Case:
    name: str
    calls: dict[str, Call]
    connections: int = 8


async def cases(planted: Planted, servers: list[Server]) -> list[Case]:
    """Every case, with a session for the service's pages, a key for its API and the headers each needs."""
    service = next(server for server in servers if server.name == "service")
    signed, with_key = {"cookie": await _session(planted)}, {"authorization": f"Bearer {planted.key}"}
    async with httpx.AsyncClient(base_url=service.url) as http:
        etag = (await http.get("/dashboard", headers={**signed, "hx-request": "true"})).headers["etag"]
    found = [
        Case("dashboard poll, unchanged (304)", {
            "floor": Call("GET", "/poll", expect=304),
            "unprotected": Call("GET", "/poll", expect=304),
            "service": Call("GET", "/dashboard", {**signed, "hx-request": "true", "if-none-match": etag}, expect=304),
        }),
        Case("dashboard poll, changed (200)", _same("/changed", "/dashboard", {**signed, "hx-request": "true"})),
        Case("dashboard as JSON", _same("/dashboard", "/api/v1/indicators/dashboard", with_key)),
        Case("page of 50 indicators", _same("/indicators", "/api/v1/indicators", with_key)),
    ]  # fmt: skip
    for size, identifier in planted.sizes.items():
        path = f"/indicators/{identifier}/readings"
        found.append(Case(f"page of 50 readings of {size:,}", _same(path, f"/api/v1{path}", with_key)))
    until = clock.now()
    span = urlencode({"since": (until - timedelta(days=90)).isoformat(), "until": until.isoformat(), "step": "day"})
    path = f"/indicators/{max(planted.sizes.items())[1]}"
    asked = f"{path}/aggregates?{span}"
    found.append(Case("aggregate of 90 days by day", _same(asked, f"/api/v1{asked}", with_key)))
    json = {"content-type": "application/json"}
    body = b'{"description": "Written by the bench, time %s"}' % COUNTER
    found.append(Case("one write (PATCH)", {
        "floor": Call("PATCH", path, json, body),
        "unprotected": Call("PATCH", path, json, body),
        "service": Call("PATCH", f"/api/v1{path}", {**json, **with_key}, body),
    }, connections=1))  # fmt: skip
    found.append(await _login(service))
    return found


def _same(plain: str, guarded: str, signed: dict[str, str]) -> dict[str, Call]:
    return {"floor": Call("GET", plain), "unprotected": Call("GET", plain), "service": Call("GET", guarded, signed)}


async def _session(planted: Planted) -> str:
    """A login without the login page: the cookie header."""
    settings = get_settings()
    resources = create_resources(settings)
    token, _ = await sessions.begin(
        resources,
        user_id=planted.user,
        organization_id=planted.organization,
        epoch=0,
        methods=("password",),
        caller=Caller(request_id="bench", address="127.0.0.1"),
    )
    await close_resources(resources)
    return f"{sessions.cookie_name(settings)}={token}"


async def _login(service: Server) -> Case:
    async with httpx.AsyncClient(base_url=service.url) as http:
        page = await http.get("/login")
        hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
        cookies = "; ".join(f"{name}={value}" for name, value in http.cookies.items())
    form = {"content-type": "application/x-www-form-urlencoded"}
    typed = {"email": EMAIL, "password": PASSWORD}
    plain = Call("POST", "/login", form, urlencode(typed).encode(), expect=303)
    guarded = Call("POST", "/login", {**form, "cookie": cookies}, urlencode({**hidden, **typed}).encode(), expect=303)
    return Case("login", {"floor": plain, "unprotected": plain, "service": guarded}, connections=2)
