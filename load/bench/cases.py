"""What is measured: each case is the same work on the three servers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import httpx

from load.bench.generator import Call
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


def cases(planted: Planted, servers: list[Server]) -> list[Case]:
    """Every case, with a session for the service and the headers each needs."""
    service = next(server for server in servers if server.name == "service")
    cookie, csrf = asyncio.run_coroutine_threadsafe if False else _session(planted)
    signed = {"cookie": cookie}
    etag = httpx.get(f"{service.url}/dashboard", headers={**signed, "hx-request": "true"}).headers["etag"]
    found = [
        Case("dashboard poll, unchanged (304)", {
            "floor": Call("GET", "/poll", expect=304),
            "unprotected": Call("GET", "/poll", expect=304),
            "service": Call("GET", "/dashboard", {**signed, "hx-request": "true", "if-none-match": etag}, expect=304),
        }),
        Case("dashboard poll, changed (200, JSON)", _same("/dashboard", "/api/v1/indicators/dashboard", signed)),
        Case("page of 50 indicators", _same("/indicators", "/api/v1/indicators", signed)),
    ]  # fmt: skip
    for size, identifier in planted.sizes.items():
        path = f"/indicators/{identifier}/readings"
        found.append(Case(f"page of 50 readings of {size:,}", _same(path, f"/api/v1{path}", signed)))
    until = clock.now()
    span = urlencode({"since": (until - timedelta(days=90)).isoformat(), "until": until.isoformat(), "step": "day"})
    path = f"/indicators/{max(planted.sizes.items())[1]}"
    found.append(Case("aggregate of 90 days by day", _same(f"{path}/aggregates?{span}", f"/api/v1{path}/aggregates?{span}", signed)))
    json = {"content-type": "application/json"}
    body = b'{"description": "Written by the bench"}'
    found.append(Case("one write (PATCH)", {
        "floor": Call("PATCH", path, json, body),
        "unprotected": Call("PATCH", path, json, body),
        "service": Call("PATCH", f"/api/v1{path}", {**json, **signed, "x-csrf-token": csrf}, body),
    }, connections=1))  # fmt: skip
    found.append(_login(service))
    return found


def _same(plain: str, guarded: str, signed: dict[str, str]) -> dict[str, Call]:
    return {"floor": Call("GET", plain), "unprotected": Call("GET", plain), "service": Call("GET", guarded, signed)}
