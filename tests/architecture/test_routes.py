"""Rules about every route: who may call it, how often, and what it may answer.

`python -m tests.architecture.test_routes` writes rate_limits.txt anew.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from types import UnionType
from typing import Any, Optional

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel
from starlette.requests import Request

from service.app import _add_routes, build
from service.catalog import load_tables
from service.core.schemas import Input
from service.core.settings import Settings, get_settings
from service.guardrails.browser import SIGNED_PREFIX
from service.guardrails.contexts import POLICIES, Ctx, KeyCtx, PublicCtx, UserCtx
from service.guardrails.idempotency import IdempotencyKey
from service.guardrails.preconditions import IfMatch
from service.guardrails.rate_limits import policy_of
from service.web.templating import NavItem
from tests.architecture.conftest import Route, plain_routes_of, routes_of
from tests.architecture.reviewed import INFRASTRUCTURE_ROUTES, NO_IDEMPOTENCY_KEY, PUBLIC_ROUTES, SIGNED_ADDRESSES
from tests.support.servers import RunningServer

RATE_LIMITS = Path(__file__).parent / "rate_limits.txt"


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
        f"{offenders}: give the handler exactly one parameter of type PublicCtx, UserCtx, Ctx, StaffCtx or KeyCtx "
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


def test_a_route_without_a_context_does_not_load() -> None:
    probe = APIRouter()

    @probe.get("/probe")
    async def forgotten() -> None: ...

    with pytest.raises(TypeError, match="/inner/probe: give the handler exactly one of PublicCtx"):
        _add_routes(FastAPI(), probe, prefix="/inner")


def keys_in_the_wrong_place(routes: list[Route]) -> list[str]:
    return [str(route) for route in routes if (policies_of(route) == ["key"]) is not route.is_api]


def test_every_route_of_the_api_takes_a_key_and_no_page_does(routes: list[Route]) -> None:
    assert sum(route.is_api for route in routes) >= 18
    offenders = keys_in_the_wrong_place(routes)
    assert not offenders, f"{offenders}: what api.py answers takes KeyCtx; a browser's cookie opens pages, a key none"


@pytest.mark.parametrize(("context", "prefix"), [(KeyCtx, ""), (Ctx, "/api/v1"), (PublicCtx, "/api/v1")])
def test_a_key_on_a_page_and_a_session_in_the_api_do_not_load(context: Any, prefix: str) -> None:
    probe = APIRouter()

    async def misplaced(ctx: Any) -> None: ...

    misplaced.__annotations__["ctx"] = context
    probe.add_api_route("/probe", misplaced, response_model=None)
    with pytest.raises(TypeError, match=f"{prefix}/probe: a route in an api.py takes KeyCtx, and no page does"):
        _add_routes(FastAPI(), probe, prefix=prefix)
    app = FastAPI()
    app.include_router(probe, prefix=prefix)
    assert keys_in_the_wrong_place(list(routes_of(app))) == [f"GET {prefix}/probe"]


def test_a_route_keeps_all_that_it_declares() -> None:
    """Routes are copied into one flat list: a dependency that got lost there would be a check that nobody makes."""
    probe = APIRouter(dependencies=[Depends(policy_of)])

    @probe.get("/probe", dependencies=[Depends(build)], response_class=PlainTextResponse, deprecated=True, summary="S")
    async def route(ctx: PublicCtx) -> str:
        return "fine"

    _add_routes(app := FastAPI(), probe)
    [added] = routes_of(app)
    assert [each.dependency for each in added.api_route.dependencies] == [policy_of, build]
    assert (added.api_route.response_class, added.api_route.deprecated) == (PlainTextResponse, True)
    assert added.api_route.summary == "S"


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


async def test_a_route_for_programs_believes_nobody_without_a_signature(app: FastAPI, server: RunningServer) -> None:
    """Under the prefix bodies are not looked at by anybody else, and whoever takes a POST without a context has to."""
    taking = [str(one.path) for one in plain_routes_of(app) if set(one.methods or ()) - {"GET", "HEAD"}]
    assert len(taking) >= 2
    assert {path for path in taking if not path.startswith(SIGNED_PREFIX)} == set(SIGNED_ADDRESSES), (
        f"a plain route that changes something belongs under {SIGNED_PREFIX}, with a signature over its body"
    )
    inside = [str(route) for route in routes_of(app) if route.path.startswith(SIGNED_PREFIX)]
    assert inside == [], f"{inside}: make it a plain route; its context would open a transaction for anybody's junk"
    async with httpx.AsyncClient(base_url=server.url) as client:
        answers = {path: (await client.post(path, json={"id": "evt_1", "type": "x"})).status_code for path in taking}
    assert set(answers.values()) == {400}, f"{answers}: verify the signature of `signed(request)` before anything else"


def limits_of(routes: Iterable[Route]) -> list[str]:
    ordered = sorted(routes, key=lambda route: (route.path, route.method))
    return [f"{route!s:62} {policy_of(route.endpoint, route.method).name}" for route in ordered]


def test_rate_limits_equal_the_reviewed_file(routes: list[Route]) -> None:
    """Every route has some limit by itself; that it is the right one, somebody has to read."""
    now, reviewed = set(limits_of(routes)), set(RATE_LIMITS.read_text().splitlines())
    assert now == reviewed, (
        f"only in the code: {sorted(now - reviewed)}; only in the file: {sorted(reviewed - now)}. Guessing, mail and "
        "exports need a tighter limit than the default: @limit(POLICY) from service/guardrails/rate_limits.py. When it "
        "is right: `python -m tests.architecture.test_routes` and have the diff of rate_limits.txt reviewed"
    )


def test_every_api_post_takes_an_idempotency_key(routes: list[Route]) -> None:
    key = typing.get_args(IdempotencyKey)[1].dependency
    posts = [route for route in routes if route.is_api and route.method == "POST"]
    assert len(posts) >= 5, f"the scan saw only {len(posts)} POSTs of the API"
    without = {str(route) for route in posts if key not in set(calls(route.api_route.dependant))}
    assert without == NO_IDEMPOTENCY_KEY, (
        f"{sorted(without ^ NO_IDEMPOTENCY_KEY)}: add `key: IdempotencyKey` to the handler, so that a client may send "
        "the same intent twice; or list the exemption with its reason in tests/architecture/reviewed.py"
    )


def test_every_change_of_one_thing_takes_its_version(routes: list[Route]) -> None:
    match = typing.get_args(IfMatch)[1].dependency
    changeable = {route.path for route in routes if route.is_api and route.method in ("PATCH", "PUT")}
    changes = [route for route in routes if route.path in changeable and route.method in ("PATCH", "PUT", "DELETE")]
    assert len(changes) >= 5, f"the scan saw only {len(changes)} changes"
    without = [str(route) for route in changes if match not in set(calls(route.api_route.dependant))]
    assert not without, (
        f"{without}: add `unchanged: IfMatch` to the handler, and `preconditions.insist(ctx, thing.changed_at)` to its "
        "action, so that no program overwrites what it has not seen (service/guardrails/preconditions.py)"
    )


def answers(route: Route) -> Any:
    return typing.get_type_hints(route.endpoint).get("return")


def kinds(annotation: Any) -> Iterator[Any]:
    """What the answer may be: each member of a union. A model's fields are the model's business."""
    if isinstance(annotation, UnionType) or typing.get_origin(annotation) is typing.Union:
        for inner in typing.get_args(annotation):
            yield from kinds(inner)
    else:
        yield typing.get_origin(annotation) or annotation


def is_collection(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, Iterable) and not issubclass(kind, (str, bytes, BaseModel))


def test_no_route_answers_a_bare_list(routes: list[Route]) -> None:
    bare = [str(route) for route in routes if any(is_collection(kind) for kind in kinds(answers(route)))]
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
    loose = []
    for route in routes:
        for parameter in route.api_route.dependant.body_params:
            kind = parameter.field_info.annotation
            if not (inspect.isclass(kind) and issubclass(kind, Input)):
                loose.append(f"{route} ({parameter.name})")
    assert not loose, f"{loose}: take a model that inherits service.core.schemas.Input; it forbids unknown fields"


async def public(ctx: PublicCtx) -> None: ...


async def unlimited(ctx: UserCtx) -> None: ...


async def undeclared(ctx: UserCtx): ...  # type: ignore[no-untyped-def]  # what the rule is about


def blocking(ctx: UserCtx) -> None: ...


async def loose(ctx: UserCtx, given: dict[str, str]) -> None: ...


async def bare(ctx: UserCtx) -> list[int]:
    return []


async def bare_or_nothing(ctx: UserCtx) -> list[int] | None: ...


async def bare_mapping(ctx: UserCtx) -> Optional[dict[str, int]]: ...  # noqa: UP045 - the older spelling too


def scattered_groups(entries: Iterable[NavItem]) -> list[str]:
    in_order = sorted(entries, key=lambda item: (item.order, item.label))
    headings = [heading for heading, _ in groupby(in_order, key=lambda item: item.group)]
    return sorted({heading for heading in headings if headings.count(heading) > 1})


def test_each_group_of_the_menu_is_one_block(app: FastAPI) -> None:
    entries = app.state.nav
    assert len(entries) >= 15
    assert not scattered_groups(entries), (
        f"{scattered_groups(entries)}: give the entries of a group neighbouring orders (NavItem in the features' pages)"
    )
    between = [*entries, NavItem("New", "/new", "plus", order=33)]
    assert scattered_groups(between) == ["", "Data"]


@pytest.mark.parametrize(
    ("rule", "handler", "sentence"),
    [
        (
            test_public_routes_equal_the_reviewed_list,
            public,
            "newly public: ['DELETE /api/probe', 'GET /api/probe', ",
        ),
        (test_rate_limits_equal_the_reviewed_file, unlimited, "have the diff of rate_limits.txt reviewed"),
        (test_every_api_post_takes_an_idempotency_key, unlimited, "['POST /api/probe']: add `key: IdempotencyKey`"),
        (
            test_every_change_of_one_thing_takes_its_version,
            unlimited,
            "['DELETE /api/probe', 'PUT /api/probe']: add `unchanged: IfMatch`",
        ),
        (test_every_handler_is_async_and_declares_its_answer, undeclared, "declare the return type"),
        (test_every_handler_is_async_and_declares_its_answer, blocking, "make the handler `async def`"),
        (test_no_handler_takes_a_bare_body, loose, "POST /api/probe (given)"),
        (test_no_route_answers_a_bare_list, bare, "return Page[...]"),
        (test_no_route_answers_a_bare_list, bare_or_nothing, "return Page[...]"),
        (test_no_route_answers_a_bare_list, bare_mapping, "return Page[...]"),
    ],
)
def test_each_rule_bites(
    rule: Callable[[list[Route]], None], handler: Callable[..., Any], sentence: str, routes: list[Route]
) -> None:
    probe = FastAPI()
    probe.add_api_route("/api/probe", handler, methods=["GET", "POST", "PUT", "DELETE"], response_model=None)
    with pytest.raises(AssertionError, match=re.escape(sentence)):
        rule([*routes, *routes_of(probe)])


def test_a_route_beside_the_framework_is_found(settings: Settings) -> None:
    async def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse("")

    app = build(settings)
    app.add_route("/debug", answer)
    with pytest.raises(AssertionError, match=r"new: \['/debug'\]"):
        test_routes_outside_the_framework_equal_the_reviewed_list(app)


if __name__ == "__main__":
    load_tables()
    RATE_LIMITS.write_text("".join(f"{line}\n" for line in limits_of(routes_of(build(get_settings())))))
