"""The event console in the browser: what happened, who was told, what they said, and say it again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from infra.sandbox.pages import page
from infra.sandbox.stripe import endpoints, events
from infra.sandbox.stripe.clock import DAY, HOUR
from infra.sandbox.stripe.pages import Form, locked
from infra.sandbox.stripe.records import Event
from infra.sandbox.stripe.renderings import thin
from infra.sandbox.stripe.store import Account

SHOWN = 50
STEPS = [("1 hour", HOUR), ("1 day", DAY), ("7 days", 7 * DAY), ("31 days", 31 * DAY)]
LONGEST_STEP = 400 * DAY


def console_routes(account: Account) -> list[Route]:
    return [
        Route("/", locked(account, _timeline)),
        Route("/events/{id}", locked(account, _event)),
        Route("/events/{id}/resend", locked(account, _resend), methods=["POST"]),
        Route("/clock", locked(account, _advance), methods=["POST"]),
        Route("/endpoints", locked(account, _endpoints)),
        Route("/endpoints/{id}/roll", locked(account, _roll), methods=["POST"]),
    ]


def _timeline(account: Account, request: Request, form: Form, *, problem: str = "") -> Response:
    asked = request.query_params
    wanted, undelivered, after = asked.get("q", "").strip(), "undelivered" in asked, asked.get("after", "")
    source: Iterator[Event] = account.events.newest_first()
    if after and account.events.get(after):
        source = iter(events.past(source, after))
    fitting = (one for one in source if _fits(one, wanted) and (not undelivered or one.pending))
    found = list(islice(fitting, SHOWN + 1))
    return page(
        request,
        "stripe/timeline.html",
        events=found[:SHOWN],
        older=found[SHOWN - 1].id if len(found) > SHOWN else "",
        total=len(account.events),
        pending=account.courier.pending(),
        q=wanted,
        undelivered=undelivered,
        after=after,
        steps=STEPS,
        now=account.now(),
        turned=account.knobs.turned,
        problem=problem,
        status_code=422 if problem else 200,
    )


def _fits(event: Event, wanted: str) -> bool:
    return not wanted or event.type.startswith(wanted) or wanted in (event.id, event.object_id, event.customer)


def _event(account: Account, request: Request, form: Form) -> Response:
    event = events.find(account, request.path_params["id"])
    shown = event.snapshot()
    return page(
        request,
        "stripe/event.html",
        event=event,
        shown=shown,
        payload=_readable(shown),
        thin=_readable(thin(shown)),
        before=_readable(shown["data"].get("previous_attributes")),
        endpoints=list(account.endpoints.values()),
    )


def _readable(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _resend(account: Account, request: Request, form: Form) -> Response:
    event = events.find(account, request.path_params["id"])
    account.courier.resend(event, form.get("endpoint", ""))
    return RedirectResponse(f"/events/{event.id}#deliveries", status_code=303)


def _advance(account: Account, request: Request, form: Form) -> Response:
    """Moves forward by a step that was pressed, or by the hours that were typed."""
    try:
        seconds = float(form["step"]) if "step" in form else float(form.get("hours", "")) * HOUR
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= LONGEST_STEP:
        return _timeline(account, request, form, problem="Type a number of hours above 0, and at most 9600.")
    account.clock.advance(seconds)
    return RedirectResponse("/", status_code=303)


def _endpoints(account: Account, request: Request, form: Form, *, secret: str = "") -> Response:
    newest_first = list(reversed(account.endpoints.values()))
    return page(request, "stripe/endpoints.html", endpoints=newest_first, secret=secret)


def _roll(account: Account, request: Request, form: Form) -> Response:
    """Shows the new secret this once, as Stripe does."""
    return _endpoints(account, request, form, secret=endpoints.roll(account, request.path_params["id"]))
