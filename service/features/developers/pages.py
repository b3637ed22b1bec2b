"""Pages that anybody may read: what each problem of the API means and how to mend it."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.core import errors
from service.core.errors import NotFound
from service.guardrails.contexts import PublicCtx
from service.web.errors import type_of
from service.web.templating import render

router = APIRouter()


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
