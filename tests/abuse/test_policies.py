"""What each route declares, asked of the running service: no token, a stale proof, too little of a key."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

from fastapi import FastAPI

from service.core import clock
from service.core.context import Login
from service.features.api_keys.queries import offered
from service.guardrails import sessions
from service.guardrails.permissions import Role
from service.guardrails.rate_limits import policy_of
from service.web.contract import example, operations
from tests.abuse.judge import Sent
from tests.abuse.parts import FORM, SENT_AS, encoded, right_parts
from tests.abuse.test_operations import JSON
from tests.abuse.world import Crowd, World
from tests.architecture.conftest import Route
from tests.architecture.entry_points import context_of, rules_of
from tests.support.client import Client

STEP_UP, WRITES_BY_KEY, READS_BY_KEY, PAGES = 30, 18, 18, 50
PASSED_THROUGH = {"GET /account/provider/return"}
"""On the way back from another provider; it leads on by itself."""
NOTHING_TO_FINISH = {"POST /account/provider/finish"}
"""Asks when there is something to finish; without a proof begun in this browser there is not."""

TYPED = {"email": "somebody@example.com"}
FILLED = dict.fromkeys(("POST /account/email", "POST /account/deletion", "POST /privacy/erasure"), TYPED)
"""Forms whose page judges them before the action asks for the proof."""


async def with_a_stale_proof(world: World, *, staff: bool) -> Client:
    """Logged in with both factors, and proven an hour ago."""
    person = await world.somebody(staff=staff)
    _, login = await world.factory.log_in(person, "password", "totp")
    token, stale = await sessions.rotate(
        world.factory.resources, login, authenticated_at=clock.now() - timedelta(hours=1)
    )
    return await browser(world, token, stale)


async def browser(world: World, token: str, login: Login) -> Client:
    cookies = {sessions.cookie_name(world.factory.resources.settings): token}
    return await world.stack.enter_async_context(Client(world.factory.url, csrf=login.csrf, cookies=cookies))


async def test_what_asks_for_a_fresh_proof_gets_none_from_a_stale_session(routes: list[Route], world: World) -> None:
    """Every page whose actions say `step_up`: an old login is led to prove itself, and nothing was done."""
    asked = 0
    for route in routes:
        if route.is_api or not any(rule.step_up for rule in rules_of(route.endpoint)) or route.method == "GET":
            continue
        staff = context_of(route) == "staff"
        person = await world.somebody(staff=staff)
        path = await world.path(route, world.home, person)
        client = await with_a_stale_proof(world, staff=staff)
        before = await world.before()
        answer = await client.post(path, csrf=client.csrf, **FILLED.get(str(route), {}))
        world.judge(answer, Sent(str(route), "a stale proof", refuse=False))
        led = answer.status_code == 303 and answer.headers["location"].startswith("/confirm")
        if not led and str(route) not in NOTHING_TO_FINISH:
            world.found.append(f"{route}: takes a stale proof ({answer.status_code} {answer.headers.get('location')})")
        await world.unchanged(before, str(route))
        asked += 1
    assert not world.found, world.report()
    assert asked >= STEP_UP, f"only {asked} routes ask for a fresh proof"


async def test_no_key_without_the_scope_changes_anything(app: FastAPI, routes: list[Route], world: World) -> None:
    """Every write of the API, with a key that may read everything, and what would be done for another one."""
    document, asked = app.openapi(), 0
    described = {f"{method} {path}": operation for method, path, operation in operations(document)}
    for route in routes:
        if not route.is_api or route.method == "GET":
            continue
        crowd = Crowd(world, policy_of(route.endpoint, route.method))
        client = await crowd.next()
        path = await world.path(route, world.home, None)
        reader = await world.factory.key(
            world.home, scopes=[scope for scope in offered(Role.OWNER) if scope.endswith(":read")]
        )
        before = await world.before()
        headers = {
            "accept": "application/json", "authorization": f"Bearer {reader}", "idempotency-key": uuid4().hex,
        }  # fmt: skip
        sent = right_body(described[str(route)], document["components"]["schemas"])
        headers |= sent.pop("headers", {})
        answer = await client.http.request(route.method, path, headers=headers, **sent)
        world.judge(answer, Sent(str(route), "a key that may only read", strict=True, only=(403,)))
        await world.unchanged(before, str(route))
        asked += 1
    assert not world.found, world.report()
    assert asked >= WRITES_BY_KEY, f"only {asked} writes"


def right_body(operation: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    content = operation.get("requestBody", {}).get("content", {})
    if FORM in content:
        right = right_parts(content[FORM]["schema"], parts)
        return {"content": encoded(right), "headers": {"content-type": SENT_AS}}
    if JSON in content:
        return {"json": example(content[JSON]["schema"], parts)}
    return {}


async def test_every_page_of_somebody_logged_in_has_the_way_out(routes: list[Route], world: World) -> None:
    """A button that logs out, wherever one is; and no page of theirs is kept anywhere, or framed, or sniffed at."""
    client = await world.browser(await world.somebody())
    person, pages, without = await world.somebody(), 0, []
    for route in routes:
        if route.method != "GET" or route.is_api or context_of(route) not in ("user", "organization"):
            continue
        answer = await client.get(await world.path(route, world.home, person))
        if answer.status_code == 200 and answer.text.startswith("<!doctype html>"):
            pages += 1
            without += [] if 'action="/logout"' in answer.text else [str(route)]
            world.judge(answer, Sent(str(route), "read by whoever may", refuse=False))
    assert set(without) <= PASSED_THROUGH
    assert not world.found, world.report()
    assert pages >= PAGES, f"the walk saw only {pages} pages"


async def test_no_operation_of_the_api_redirects(routes: list[Route], world: World) -> None:
    """Nor from http to https: a program that sends its key in clear has to notice."""
    asked = 0
    for route in routes:
        if not route.is_api or route.method != "GET":
            continue
        client = await Crowd(world, policy_of(route.endpoint, "GET")).next()
        path = await world.path(route, world.home, None)
        for headers in ({"x-forwarded-proto": "http"}, {"x-forwarded-proto": "http", **client.bearer}):
            answer = await client.http.get(path, headers=headers)
            world.judge(answer, Sent(str(route), "over http", refuse=False))
            assert not answer.is_redirect, f"{route}: {answer.status_code} {answer.headers.get('location')}"
        asked += 1
    assert not world.found, world.report()
    assert asked >= READS_BY_KEY
