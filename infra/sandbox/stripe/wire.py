"""Stripe's way of talking over HTTP: bracketed form fields in, JSON or an error in Stripe's shape out.

An operation is a method, a path and a plain function of the account and the decoded parameters; parts of the path in
braces arrive as arguments. docs.stripe.com/api/authentication, /errors, /idempotent_requests, /expanding_objects
"""

from __future__ import annotations

import base64
import hmac
import json
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.sandbox.stripe import faults, idempotency
from infra.sandbox.stripe.expanding import expanded
from infra.sandbox.stripe.params import InvalidParameter
from infra.sandbox.stripe.store import Account, Obj, StripeError

API_VERSION = "2026-10-28.endive"
DEEPEST = 8
Operation = tuple[str, str, Callable[..., Obj]]


def api_routes(account: Account, operations: list[Operation]) -> list[Route]:
    """One route per path; anything else under /v1 and /v2 gets Stripe's 404."""
    paths: dict[str, dict[str, Callable[..., Obj]]] = {}
    for method, path, work in operations:
        paths.setdefault(path, {})[method] = work
    routes = [
        Route(path, _endpoint(account, works), methods=["GET", "POST", "DELETE", "PUT", "PATCH"])
        for path, works in paths.items()
    ]
    methods = ["GET", "POST", "DELETE", "PUT", "PATCH"]
    return routes + [Route(f"/{v}/{{rest:path}}", _endpoint(account, {}), methods=methods) for v in ("v1", "v2")]


def _endpoint(account: Account, works: dict[str, Callable[..., Obj]]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        with account.lock:
            request_id = account.new_id("req")
        headers = {"Request-Id": request_id, "Stripe-Version": request.headers.get("Stripe-Version", API_VERSION)}
        try:
            _authenticate(account, request)
            answer = await _answer(account, request, works.get(request.method), request_id)
        except StripeError as error:
            answer = idempotency.Answer.of(error.status, error.body)
        if answer.cut_off:
            return faults.CutOff()
        return Response(answer.body, answer.status, headers | answer.headers, "application/json")

    return endpoint


async def _answer(
    account: Account, request: Request, work: Callable[..., Obj] | None, request_id: str
) -> idempotency.Answer:
    if work is None:
        text = f"Unrecognized request URL ({request.method}: {request.url.path}). See https://stripe.com/docs."
        raise StripeError(text, status=404)
    raw = await request.body()
    is_change = request.method != "GET"
    key = request.headers.get("Idempotency-Key", "") if request.method == "POST" else ""
    fingerprint = f"{request.method} {request.url.path} {raw.decode(errors='replace')}"
    if kept := idempotency.begin(account, key, fingerprint):
        return kept
    answer: idempotency.Answer | None = None
    try:
        await faults.hold(account, faults.latency(account))
        planned = faults.plan(account, is_change=is_change)
        if planned.refusal:
            raise planned.refusal
        if planned.before:
            answer = faults.server_error()
        else:
            params = decode(raw, request)
            try:
                answer = _work(account, work, request, params, request_id, key)
            except (AttributeError, IndexError, KeyError, TypeError, ValueError):
                # A text where a hash belongs, or the like. A mistake of ours would look the same: hence the trace.
                traceback.print_exc()
                raise InvalidParameter("Invalid request: a parameter has the wrong shape.") from None
            await faults.hold(account, account.knobs.api_answer_late if is_change else 0)
            if planned.after:
                answer = faults.server_error()
        if planned.cut_off:
            return idempotency.Answer(0, b"", cut_off=True)
        return answer
    finally:
        # A 500 is kept and replayed like any other answer; what never began (429, 409, a wrong parameter) is not.
        idempotency.end(account, key, answer)


def _work(
    account: Account, work: Callable[..., Obj], request: Request, params: Obj, request_id: str, key: str
) -> idempotency.Answer:
    """The change, its events and the copy that is sent, all under one lock."""
    with account.lock:
        account.clock.catch_up()
        account.request = {"id": request_id, "idempotency_key": key or None}
        expand = params.pop("expand", [])
        try:
            with account.clock.held():
                result = work(account, params, **request.path_params)
            shown = expanded(account, result, expand if isinstance(expand, list) else [expand])
            status, shown = 200, faults.garbled(account, shown, params)
        except InvalidParameter:
            raise
        except StripeError as error:
            status, shown = error.status, error.body
        finally:
            account.request = {"id": None, "idempotency_key": None}
        return idempotency.Answer.of(status, shown)


def decode(raw: bytes, request: Request) -> Obj:
    """Form fields, query or, for /v2, JSON. `items[0][price]=x` means {"items": [{"price": "x"}]}."""
    if request.headers.get("Content-Type", "").startswith("application/json"):
        try:
            found = json.loads(raw or b"{}")
        except ValueError:
            raise StripeError("Invalid JSON in the request body") from None
        return found if isinstance(found, dict) else {}
    fields = parse_qsl(request.url.query, keep_blank_values=True)
    fields += parse_qsl(raw.decode(errors="replace"), keep_blank_values=True)
    tree: Obj = {}
    for name, value in fields:
        path = [part.rstrip("]") for part in name.split("[")]
        if len(path) > DEEPEST:
            raise StripeError(f"Invalid parameter: {name} is nested too deeply", param=name)
        _put(tree, path, value)
    listed: Obj = _lists(tree)
    return listed


def _put(tree: Obj, path: list[str], value: str) -> None:
    for part in path[:-1]:
        inner = tree.setdefault(part or str(len(tree)), {})
        if not isinstance(inner, dict):
            raise StripeError(f"Invalid parameter: {path[0]}", param=path[0])
        tree = inner
    tree[path[-1] or str(len(tree))] = value


def _lists(node: Any) -> Any:
    """Hashes whose keys count from 0 were lists."""
    if not isinstance(node, dict):
        return node
    inner = {key: _lists(value) for key, value in node.items()}
    if inner and all(key.isdecimal() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


def _authenticate(account: Account, request: Request) -> None:
    """The secret key as a bearer token, or as the name of HTTP basic authentication."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[0]
        except ValueError:
            given = ""
    if not given:
        raise StripeError("You did not provide an API key.", status=401)
    if not hmac.compare_digest(given.encode(), account.secret_key.encode()):
        raise StripeError(f"Invalid API Key provided: {given[:7]}****", status=401)
