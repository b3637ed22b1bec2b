"""Pages that anybody may read: the contract of the API, and what each of its problems means."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from hashlib import blake2b

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.routing import Route

from service.core import clock, errors
from service.core.errors import NotFound
from service.guardrails.contexts import PublicCtx
from service.guardrails.permissions import Role
from service.web.errors import type_of
from service.web.templating import NavItem, render

router = APIRouter()

NAV = [NavItem("API guide", "/developers", "code", order=84, requires=Role.ADMIN, group="Developers")]


@router.get("/developers")
async def show_quickstart(request: Request, ctx: PublicCtx) -> Response:
    """Its lines are run by a test, as they stand there."""
    yesterday = (clock.now() - timedelta(days=1)).date().isoformat()
    return render(request, "developers/quickstart.html", address=ctx.settings.base_url, day=yesterday)


@router.get("/problems")
async def list_problems(request: Request, ctx: PublicCtx) -> Response:
    found = sorted(errors.kinds().values(), key=lambda kind: (kind.status, kind.code))
    return render(request, "developers/problems.html", kinds=found)


@router.get("/problems/{code}")
async def show_problem(request: Request, ctx: PublicCtx, code: str) -> Response:
    kind = errors.kinds().get(code)
    if kind is None:
        raise NotFound("There is no problem of this name.", mend="All of them are on the page /problems.")
    return render(request, "developers/problem.html", kind=kind, type=type_of(kind))


async def contract(request: Request) -> Response:
    """The same bytes until the next release; programs ask whether they changed with `If-None-Match`."""
    state = request.app.state
    if not hasattr(state, "contract"):
        state.contract = await asyncio.to_thread(_written, request.app)  # a tenth of a second, once
    body, tag = state.contract
    headers = {"ETag": tag, "Cache-Control": "public, max-age=300", "Access-Control-Allow-Origin": "*"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def _written(app: FastAPI) -> tuple[bytes, str]:
    body = orjson.dumps(app.openapi())
    return body, f'"{blake2b(body, digest_size=8).hexdigest()}"'


infrastructure = [Route("/openapi.json", contract, methods=["GET"])]
