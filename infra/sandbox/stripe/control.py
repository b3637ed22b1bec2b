"""What a program may do to the stand-in that Stripe's API has no call for: all of it under /sandbox.

POST /sandbox/clock {"advance": seconds},
POST /sandbox/disputes {"charge": id} or {"dispute": id, "won": true},
POST /sandbox/events {"type": name, "object": {...}, "previous": {...}, "livemode": false} for events nothing causes
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.sandbox.stripe import disputes, events
from infra.sandbox.stripe.store import Account, StripeError

Work = Callable[[Account, Request, dict[str, Any]], Awaitable[dict[str, Any]]]


def control_routes(account: Account) -> list[Route]:
    """For tests and scripts in another process; no key is asked for, as everywhere in the sandbox."""
    return [
        Route("/sandbox/clock", _answering(account, _advance), methods=["POST"]),
        Route("/sandbox/disputes", _answering(account, _dispute), methods=["POST"]),
        Route("/sandbox/events", _answering(account, _emit), methods=["POST"]),
    ]


def _answering(account: Account, work: Work) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            body = await request.json() if await request.body() else {}
            return JSONResponse(await work(account, request, dict(body)))
        except StripeError as error:
            return JSONResponse(error.body, status_code=error.status)
        except (ValueError, TypeError):
            return JSONResponse({"error": "send a JSON object with the fields that belong there"}, status_code=422)

    return answer


async def _advance(account: Account, request: Request, body: dict[str, Any]) -> dict[str, Any]:
    return {"now": account.clock.advance(float(body["advance"]) if "advance" in body else 0.0)}


async def _dispute(account: Account, request: Request, body: dict[str, Any]) -> dict[str, Any]:
    """Open one for a charge or, given `dispute` and `won`, have the bank decide one."""
    with account.lock:
        if "dispute" in body:
            return disputes.decide(account, str(body["dispute"]), won=bool(body.get("won")))
        return disputes.open_dispute(account, str(body.get("charge")), str(body.get("reason", "fraudulent")))


async def _emit(account: Account, request: Request, body: dict[str, Any]) -> dict[str, Any]:
    """An event without its cause: an unknown type, one of another mode, or noise."""
    if not isinstance(body.get("type"), str) or not isinstance(body.get("object"), dict):
        raise ValueError("type and object")
    livemode = body.get("livemode") is True
    return events.emit(account, body["type"], body["object"], body.get("previous"), livemode=livemode)
