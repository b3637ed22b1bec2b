"""Every mail the product can send, with sample values, in both parts: what a change of a template looks like."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from infra.sandbox.pages import FRAME_POLICY, page
from service.core.features import load
from service.features import FEATURES
from service.web.mail import LETTERS, compose


async def listed(request: Request) -> Response:
    load(FEATURES, "jobs")
    chosen = request.query_params.get("name", "")
    subject, text, _ = _composed(chosen) if chosen else ("", "", "")
    return page(
        request, "templates.html", letters=sorted(LETTERS.values(), key=lambda one: one.template), chosen=chosen,
        subject=subject, text=text,
    )  # fmt: skip


async def html(request: Request) -> Response:
    load(FEATURES, "jobs")
    _, _, shown = _composed(request.query_params.get("name", ""))
    return HTMLResponse(shown, headers={"Content-Security-Policy": FRAME_POLICY, "Cache-Control": "no-store"})


def _composed(name: str) -> tuple[str, str, str]:
    if name not in LETTERS:
        raise HTTPException(404, "No such template.")
    return compose(name, **LETTERS[name].sample)
