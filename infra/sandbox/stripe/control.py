"""What a program may do to the stand-in that Stripe's API has no call for: all of it under /sandbox.

POST /sandbox/clock {"advance": seconds}, POST /sandbox/disputes {"charge": id} or {"dispute": id, "won": true},
POST /sandbox/settle {"timeout": 30, "retries": true},
POST /sandbox/events {"type": name, "object": {...}, "previous": {...}, "livemode": false} for events nothing causes,
POST /sandbox/events/{id}/resend {"endpoint": id},
POST /sandbox/endpoints/{id}/roll {"overlap": seconds},
GET /sandbox/deliveries?event=&endpoint=&limit=
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from itertools import chain, islice
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.sandbox.stripe import disputes, endpoints, events
from infra.sandbox.stripe.records import Delivery
from infra.sandbox.stripe.store import Account, StripeError

MOST_DELIVERIES = 10_000
LONGEST_WAIT = 600.0
Work = Callable[[Account, Request, dict[str, Any]], Awaitable[dict[str, Any]]]


def control_routes(account: Account) -> list[Route]:
    """For tests and scripts in another process; no key is asked for, as everywhere in the sandbox."""
    return [
        Route("/sandbox/clock", _answering(account, _advance), methods=["POST"]),
        Route("/sandbox/settle", _answering(account, _settle), methods=["POST"]),
        Route("/sandbox/disputes", _answering(account, _dispute), methods=["POST"]),
        Route("/sandbox/deliveries", _answering(account, _deliveries)),
        Route("/sandbox/events", _answering(account, _emit), methods=["POST"]),
        Route("/sandbox/events/{id}/resend", _answering(account, _resend), methods=["POST"]),
        Route("/sandbox/endpoints/{id}/roll", _answering(account, _roll), methods=["POST"]),
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


async def _settle(account: Account, request: Request, body: dict[str, Any]) -> dict[str, Any]:
    timeout = min(float(body.get("timeout", 30)), LONGEST_WAIT)
    retries = bool(body.get("retries", True))
    settled = await asyncio.to_thread(account.courier.settle, timeout, retries=retries)
    return {"settled": settled, "pending": account.courier.pending()}


async def _emit(account: Account, request: Request, body: dict[str, Any]) -> dict[str, Any]:
    """An event without its cause: an unknown type, one of another mode, or noise."""
    if not isinstance(body.get("type"), str) or not isinstance(body.get("object"), dict):
        raise ValueError("type and object")
    livemode = body.get("livemode") is True
    return events.emit(account, body["type"], body["object"], body.get("previous"), livemode=livemode)


async def _resend(account: Account, request: Request, body: dict[str, Any]) -> dict[str, Any]:
    again = account.courier.resend(events.find(account, request.path_params["id"]), str(body.get("endpoint", "")))
    return {"deliveries": [one.number for one in again]}


async def _roll(account: Account, request: Request, body: dict[str, Any]) -> dict[str, Any]:
    overlap = float(body.get("overlap", endpoints.LONGEST_OVERLAP))
    return {"secret": endpoints.roll(account, request.path_params["id"], overlap)}


async def _deliveries(account: Account, request: Request, body: dict[str, Any]) -> dict[str, Any]:
    query = request.query_params
    limit = min(int(query.get("limit", MOST_DELIVERIES)), MOST_DELIVERIES)
    with account.lock:
        sources = [events.find(account, query["event"])] if "event" in query else account.events.newest_first()
        every = chain.from_iterable(reversed(one.deliveries) for one in sources)
        wanted = (one for one in every if query.get("endpoint") in (None, one.endpoint.id))
        return {"deliveries": [_shown(one) for one in islice(wanted, limit)]}


def _shown(delivery: Delivery) -> dict[str, Any]:
    return {
        "number": delivery.number,
        "event": delivery.event.id,
        "type": delivery.event.type,
        "endpoint": delivery.endpoint.id,
        "why": delivery.why,
        "state": delivery.state,
        "attempts": [asdict(one) for one in delivery.attempts],
    }
