"""Whoever reads more than an ordinary body does so within the bounds made for it, for somebody who was believed."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request, UploadFile

from service.app import large_bodies, uploads_of
from service.core.multipart import arriving
from service.core.schemas import Input
from service.core.settings import Settings
from service.guardrails.contexts import Ctx, KeyCtx, PublicCtx
from service.guardrails.idempotency import IdempotentRoute
from service.guardrails.rate_limits import UPLOAD, limit, policy_of
from service.guardrails.strict_json import large_json
from service.guardrails.uploads.policy import UploadPolicy, accept_upload, upload_policy_of
from tests.architecture.conftest import Route, routes_of
from tests.architecture.test_routes import policies_of

READERS = {"arriving", "stream", "form", "body", "json"}
"""How a handler reads a body by itself, past what FastAPI and the forms read for it."""
MOST = {
    "POST /api/v1/indicators/readings/batch": "2097152 bytes of JSON",
    "POST /api/v1/indicators/{indicator_id}/readings/batch": "2097152 bytes of JSON",
    "POST /api/v1/files": "25000000 bytes in 120 s, at least 1024 a second, 8 at once and 3 of one",
    "POST /files": "25000000 bytes in 120 s, at least 1024 a second, 8 at once and 3 of one",
    "POST /imports/new": "200000000 bytes in 600 s, at least 1024 a second, 8 at once and 3 of one",
}
"""What each route takes that takes more than an ordinary body; reviewed, because a bound that grew protects no more."""


def most_of(route: Route) -> str:
    if policy := upload_policy_of(route.endpoint):
        pace = f"at least {policy.slowest} a second, {policy.at_once} at once and {policy.each} of one"
        return f"{policy.most_bytes} bytes in {policy.seconds:.0f} s, {pace}"
    return f"{route.endpoint.most_json} bytes of JSON" if hasattr(route.endpoint, "most_json") else ""


def reads_by_itself(route: Route) -> bool:
    tree = ast.parse(textwrap.dedent(inspect.getsource(route.endpoint)))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = {call.id if isinstance(call, ast.Name) else getattr(call, "attr", "") for call in calls}
    files = any(one.field_info.annotation is UploadFile for one in route.api_route.dependant.body_params)
    return bool(named & READERS) or files


def offences(routes: list[Route]) -> Iterator[str]:
    for route in routes:
        policy = upload_policy_of(route.endpoint)
        long = policy is not None or hasattr(route.endpoint, "most_json")
        long |= route.is_api and route.api_route.body_field is not None
        person, key = policies_of(route) == ["organization"], policies_of(route) == ["key"]
        if reads_by_itself(route) and policy is None:
            yield f"{route} reads its body by itself: give it @accept_upload(POLICY), which bounds, counts and times it"
        if policy is not None and "{" in route.path:
            yield f"{route}: an upload has a fixed path, because its bounds are found by it before any route is"
        if policy is not None and policy_of(route.endpoint, route.method) is not UPLOAD:
            yield f"{route}: an upload costs more than other changes: @limit(UPLOAD)"
        if long and not (person or (key and isinstance(route.api_route, IdempotentRoute))):
            yield (
                f"{route} reads long bodies of strangers: take Ctx; or KeyCtx, on a router with "
                "route_class=IdempotentRoute, which believes the key first"
            )


def test_large_bodies_are_read_within_their_bounds(routes: list[Route], app: FastAPI) -> None:
    uploads = [route for route in routes if upload_policy_of(route.endpoint)]
    long = [route for route in routes if hasattr(route.endpoint, "most_json")]
    assert (len(uploads), len(long)) >= (3, 2), f"the scan saw only {len(uploads)} uploads and {len(long)} long bodies"
    assert (len(uploads_of(app)), len(large_bodies(app))) == (len(uploads), len(long))
    assert sum(map(reads_by_itself, routes)) >= 3
    found = list(offences(routes))
    assert not found, f"{found} (service/guardrails/uploads, service/guardrails/strict_json.py)"


def test_how_much_is_taken_equals_what_was_reviewed(routes: list[Route], settings: Settings) -> None:
    now = {str(route): most for route in routes if (most := most_of(route))}
    assert now == MOST, (
        "more memory, disk and time for whoever sends; when it is right, change MOST and have it reviewed"
    )
    assert settings.max_body_bytes <= 1_048_576, "an ordinary body: of every form and every call of the API"


TINY = UploadPolicy("tiny", {}, most_bytes=1)


class Given(Input):
    name: str


async def reads(request: Request, ctx: Ctx) -> None:
    await arriving(request)


async def streams(request: Request, ctx: Ctx) -> None:
    async for _ in request.stream():
        pass


async def takes_a_file(ctx: Ctx, file: UploadFile) -> None: ...


@accept_upload(TINY)
async def unlimited(request: Request, ctx: Ctx) -> None: ...


@limit(UPLOAD)
@accept_upload(TINY)
async def of_strangers(request: Request, ctx: PublicCtx) -> None: ...


@large_json(1_000_000)
async def long(ctx: KeyCtx, given: Given) -> None: ...


async def short(ctx: KeyCtx, given: Given) -> None: ...


@pytest.mark.parametrize(
    ("handler", "path", "sentence"),
    [
        (reads, "/probe", "POST /probe reads its body by itself: give it @accept_upload"),
        (streams, "/probe", "POST /probe reads its body by itself"),
        (takes_a_file, "/probe", "POST /probe reads its body by itself"),
        (unlimited, "/probe", "POST /probe: an upload costs more"),
        (unlimited, "/probe/{probe}", "POST /probe/{probe}: an upload has a fixed path"),
        (of_strangers, "/probe", "POST /probe reads long bodies of strangers"),
        (long, "/api/v1/probe", "POST /api/v1/probe reads long bodies of strangers"),
        (short, "/api/v1/probe", "POST /api/v1/probe reads long bodies of strangers"),
    ],
)
def test_the_rule_bites(
    handler: Callable[..., Any], path: str, sentence: str, routes: list[Route], app: FastAPI
) -> None:
    probe = FastAPI()
    probe.add_api_route(path, handler, methods=["POST"], response_model=None)
    found = list(offences(list(routes_of(probe))))
    assert any(re.match(re.escape(sentence), one) for one in found), found
