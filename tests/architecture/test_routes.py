"""Rules about every route: who may call it, how often, and what it may answer."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant

from service.core.settings import Settings
from service.guardrails.contexts import POLICIES, PublicCtx, UserCtx
from service.guardrails.idempotency import IdempotencyKey
from service.guardrails.rate_limits import policy_of
from tests.architecture.conftest import Route, plain_routes_of, routes_of
from tests.architecture.reviewed import INFRASTRUCTURE_ROUTES, NO_IDEMPOTENCY_KEY, PUBLIC_ROUTES


def policies_of(route: Route) -> list[str]:
    """The context policies a route declares; a dependency below another policy counts as that one."""
    return [POLICIES[each.call] for each in route.api_route.dependant.dependencies if each.call in POLICIES]


def calls(dependant: Dependant) -> Iterator[Any]:
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from calls(dependency)


def routes_without_one_context(routes: list[Route]) -> list[str]:
    return [str(route) for route in routes if len(policies_of(route)) != 1]


def test_every_route_has_exactly_one_context_type(routes: list[Route]) -> None:
    offenders = routes_without_one_context(routes)
    assert not offenders, (
        f"{offenders}: give the handler exactly one parameter of type PublicCtx, UserCtx, Ctx or StaffCtx "
        "(service/guardrails/contexts.py); its type is the route's authentication policy"
    )


def test_a_route_without_a_context_is_found(settings: Settings) -> None:
    """The rule sees routes inside included routers, where a plain loop over app.routes sees none."""
    probe = APIRouter()

    @probe.get("/probe")
    async def forgotten() -> None: ...

    @probe.get("/twice")
    async def both(a: PublicCtx, b: UserCtx) -> None: ...

    app = FastAPI()
    app.include_router(probe, prefix="/inner")
    assert routes_without_one_context(list(routes_of(app))) == ["GET /inner/probe", "GET /inner/twice"]


def test_public_routes_equal_the_reviewed_list(routes: list[Route]) -> None:
    public = {str(route) for route in routes if policies_of(route) == ["public"]}
    assert public == PUBLIC_ROUTES, (
        f"newly public: {sorted(public - PUBLIC_ROUTES)}; no longer public: {sorted(PUBLIC_ROUTES - public)}. "
        "If that is meant, change PUBLIC_ROUTES in tests/architecture/reviewed.py and have it reviewed"
    )


def test_routes_outside_the_framework_equal_the_reviewed_list(app: FastAPI) -> None:
    plain = {str(context.path) for context in plain_routes_of(app)}
    assert plain == INFRASTRUCTURE_ROUTES, (
        f"new: {sorted(plain - INFRASTRUCTURE_ROUTES)}; gone: {sorted(INFRASTRUCTURE_ROUTES - plain)}. Such a route "
        "has no context, no limit and no transaction: make it a router's route, or add it to the reviewed list"
    )


def test_every_route_has_a_rate_policy(routes: list[Route]) -> None:
    without = [str(route) for route in routes if policy_of(route.endpoint, route.method) is None]
    assert not without, f"{without}: declare @limit(POLICY) from service/guardrails/rate_limits.py"


def test_every_api_post_takes_an_idempotency_key(routes: list[Route]) -> None:
    key = typing.get_args(IdempotencyKey)[1].dependency
    posts = [route for route in routes if route.is_api and route.method == "POST"]
    assert len(posts) >= 4, "the scan saw hardly any POST of the API"
    without = {str(route) for route in posts if key not in set(calls(route.api_route.dependant))}
    assert without == NO_IDEMPOTENCY_KEY, (
        f"{sorted(without ^ NO_IDEMPOTENCY_KEY)}: add `key: IdempotencyKey` to the handler, so that a client may send "
        "the same intent twice; or list the exemption with its reason in tests/architecture/reviewed.py"
    )


def answers(route: Route) -> Any:
    return typing.get_type_hints(route.endpoint).get("return")


def test_no_route_answers_a_bare_list(routes: list[Route]) -> None:
    bare = [str(route) for route in routes if typing.get_origin(answers(route)) in (list, tuple, set)]
    assert not bare, (
        f"{bare}: return Page[...] (service/guardrails/pagination.py); an unbounded list grows until it kills"
    )


def test_every_handler_is_async_and_declares_its_answer(routes: list[Route]) -> None:
    blocking = [str(route) for route in routes if not inspect.iscoroutinefunction(route.endpoint)]
    untyped = [
        str(route)
        for route in routes
        if answers(route) is None and "return" not in typing.get_type_hints(route.endpoint)
    ]
    assert not blocking, f"{blocking}: make the handler `async def`; a thread per request is slower and hides blocking"
    assert not untyped, f"{untyped}: declare the return type; an undeclared answer is serialised five times slower"


def test_no_handler_takes_a_bare_body(routes: list[Route]) -> None:
    """`dict` bodies skip validation, and with it every protection of service.core.schemas.Input."""
    from service.core.schemas import Input

    loose = []
    for route in routes:
        for parameter in route.api_route.dependant.body_params:
            kind = parameter.field_info.annotation
            if not (inspect.isclass(kind) and issubclass(kind, Input)):
                loose.append(f"{route} ({parameter.name})")
    assert not loose, f"{loose}: take a model that inherits service.core.schemas.Input; it forbids unknown fields"
