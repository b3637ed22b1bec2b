"""Faults that a person, a test or the chaos matrix can switch on in a running stand-in, over HTTP.

`GET /api/knobs` shows them, `POST` changes the ones named, `DELETE` puts all back; `/faults` is the same for people.
"""

from __future__ import annotations

from typing import Any, Protocol, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from infra.sandbox.pages import page


class Knobs(BaseModel):
    """Base of each stand-in's faults; every field has a default that means healthy."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class HasKnobs(Protocol):
    name: str
    knobs: Any


def changed(knobs: Knobs, changes: dict[str, Any]) -> Knobs:
    """A copy with some knobs turned. Raises ValidationError for an unknown name or a value out of range."""
    return type(knobs).model_validate(knobs.model_dump() | changes)


def knob_routes(stand_in: HasKnobs) -> list[Route]:
    """The endpoint for programs and the page for people."""

    async def api(request: Request) -> Response:
        if request.method == "DELETE":
            stand_in.knobs = type(stand_in.knobs)()
        elif request.method == "POST":
            try:
                body = await request.json()
                stand_in.knobs = changed(stand_in.knobs, dict(body))
            except (ValueError, TypeError) as error:
                return JSONResponse({"error": _explain(error)}, status_code=422)
        return JSONResponse(stand_in.knobs.model_dump())

    async def faults(request: Request) -> Response:
        problem = ""
        if request.method == "POST":
            form = await request.form()
            fields = type(stand_in.knobs).model_fields
            # A browser leaves an unticked box out of the form altogether.
            values = {
                name: form.get(name, False if field.annotation is bool else field.default)
                for name, field in fields.items()
            }
            try:
                stand_in.knobs = changed(stand_in.knobs, values)
                return RedirectResponse("/faults", status_code=303)
            except ValidationError as error:
                problem = _explain(error)
        return page(
            request,
            "faults.html",
            service=stand_in.name,
            fields=_fields(stand_in.knobs),
            problem=problem,
            status_code=422 if problem else 200,
        )

    return [
        Route("/api/knobs", api, methods=["GET", "POST", "DELETE"]),
        Route("/faults", faults, methods=["GET", "POST"]),
    ]


def _fields(knobs: Knobs) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "help": field.description,
            "value": getattr(knobs, name),
            "is_switch": field.annotation is bool,
            "is_text": field.annotation is str,
            "choices": get_args(field.annotation),
            "is_on": getattr(knobs, name) != field.default,
        }
        for name, field in type(knobs).model_fields.items()
    ]


def _explain(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
    return "send a JSON object of knob names and values"
