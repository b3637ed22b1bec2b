"""Whatever list staff see is a Listing: searched, read page by page, taken away as CSV, never written by hand."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterable
from typing import Literal

from fastapi import FastAPI, Request, Response

from service.core.ids import new_id
from service.core.schemas import Input
from service.guardrails.contexts import POLICIES, StaffCtx
from service.guardrails.pagination import PageRequest
from service.guardrails.rate_limits import EXPORT, policy_of
from service.web.staff import Act, Column, Detail, Listing
from service.web.staff.controls import controls_of
from service.web.templating import environment, render
from tests.architecture.conftest import Route, routes_of
from tests.architecture.test_routes import calls
from tests.support.client import Client
from tests.support.factories import Factory

LISTINGS, OTHERS = 27, 15
"""How many pages of staff there were of each kind when this was set: fewer means that the scan is blind."""
SHORT = {
    "/staff": "the switches that are on, the kinds of dead letters that wait, and every page there is",
    "/staff/billing": "the sweeps that there are, and the way to one customer",
    "/staff/billing/customers/{customer_id}": "one customer, with the newest of each kind",
    "/staff/billing/customers/{customer_id}/diff": "one customer beside Stripe",
    "/staff/billing/inbox/{message_id}": "one message, and what its reading changed",
    "/staff/dead-letters": "a line for each kind, which leads to its listing",
    "/staff/erasures/{request_id}": "one request, a line for each step",
    "/staff/organizations/{organization_id}": "one organization, with the newest of each kind",
    "/staff/people/{person_id}": "one person, with the newest of each kind",
    "/staff/rate-limits": "the limits that count for one person, address, organization or key",
    "/staff/switches": "the switches that the code declares",
    "/staff/system": "the parts of the service",
}
"""Pages with a table that cannot grow beyond what one looks at, and why."""
TYPED = ("text", "date", "email", "number")
"""Controls that one types what one looks for into; a choice among few is no search."""
ONE_GRANT = """
    INSERT INTO break_glass_grants (id, user_id, reason, opened_at, ends_at, code_hash)
    VALUES ($1, $2, 'Nobody could log in', now() - interval '1 hour', now(), 'x')
"""
"""One of its lists reads on only in what was done under such rights."""
TEMPLATE = re.compile(r"""["']([\w/-]+\.html)["']""")
TABLE, PAGER = ("ui.table(", "<table", "<ul"), "ui.pager("


def drawn_by(route: Route) -> str:
    """The text of the templates that a page names, itself or through functions beside it."""
    declared = getattr(route.endpoint, "declared", None)
    if isinstance(declared, Detail):
        names = [declared.template]
    else:
        handler = inspect.unwrap(route.endpoint)
        beside = [handler.__globals__.get(name) for name in handler.__code__.co_names]
        near = [one for one in beside if inspect.isfunction(one) and one.__module__ == handler.__module__]
        names = [name for one in (handler, *near) for name in TEMPLATE.findall(inspect.getsource(one))]
    loader = environment().loader
    assert loader is not None
    return "\n".join(loader.get_source(environment(), name)[0] for name in names)


def pages_of_staff(routes: Iterable[Route]) -> list[Route]:
    return [
        route
        for route in routes
        if route.method == "GET" and any(POLICIES.get(call) == "staff" for call in calls(route.api_route.dependant))
    ]


def by_hand(pages: Iterable[Route]) -> dict[str, str]:
    """Pages that are no Listing and show one: path -> what gives it away."""
    paged, found = typing.get_args(PageRequest)[1].dependency, {}
    for route in pages:
        if isinstance(getattr(route.endpoint, "declared", None), Listing | Act):
            continue
        text = drawn_by(route)
        if paged in set(calls(route.api_route.dependant)) or PAGER in text:
            found[route.path] = "it is read page by page"
        elif any(each in text for each in TABLE):
            found[route.path] = "it has a table"
    return found


def test_every_list_that_staff_see_is_declared(routes: list[Route]) -> None:
    pages = pages_of_staff(routes)
    kinds = [getattr(route.endpoint, "declared", None) for route in pages if not route.path.endswith("/csv")]
    listings = [one for one in kinds if isinstance(one, Listing)]
    others = [one for one in kinds if not isinstance(one, Listing | Act)]
    assert len(listings) >= LISTINGS, f"the scan saw only {len(listings)} listings"
    assert len(others) >= OTHERS, f"the scan saw only {len(others)} other pages"
    found = by_hand(pages)
    assert set(found) == set(SHORT), (
        f"{sorted(set(found) ^ set(SHORT))}: a list is a Listing in the feature's admin.py (service/web/staff); a "
        "table that cannot grow stands above, with the reason"
    )
    assert set(found.values()) == {"it has a table"}, found


def test_a_list_written_by_hand_is_found() -> None:
    app = FastAPI()

    @app.get("/staff/probe")
    async def paged(request: Request, ctx: StaffCtx, page: PageRequest) -> Response:
        return render(request, "admin/home.html")

    @app.get("/staff/probe/table")
    async def first_hundred(request: Request, ctx: StaffCtx) -> Response:
        return drawn_beside(request)

    @app.get("/staff/probe/nothing")
    async def plain(request: Request, ctx: StaffCtx) -> Response:
        return render(request, "admin/reason.html")

    found = by_hand(pages_of_staff(routes_of(app)))
    assert found == {"/staff/probe": "it is read page by page", "/staff/probe/table": "it has a table"}


def drawn_beside(request: Request) -> Response:
    return render(request, "admin/dead_letters.html")


def unsearchable(listings: Iterable[Listing]) -> list[str]:
    return [
        f"{listing.path} cannot be searched: give `wanted` a field to type into, which {listing.query.__name__} heeds"
        for listing in listings
        if not any(control.type in TYPED for control in controls_of(listing.wanted))
    ]


def never_taken_away(listings: Iterable[Listing], routes: Iterable[Route]) -> list[str]:
    limits = {route.path: policy_of(route.endpoint, route.method) for route in routes}
    return [
        f"{listing.path} cannot be taken away: it has no CSV at {listing.path}/csv under the limit of exports"
        for listing in listings
        if limits.get(f"{listing.path}/csv") is not EXPORT
    ]


async def unpaged(paths: Iterable[str], staff: Client) -> list[str]:
    """A list that goes on from any cursor, even from one that nobody gave out, has only one page."""
    return [
        f"{path} cannot be paged: its query answers a cursor of no list as if none were sent (guardrails/pagination.py)"
        for path in paths
        if (await staff.get(f"{path}?cursor=of-no-list")).status_code != 422
    ]


async def test_each_list_of_staff_can_be_searched_paged_and_taken_away(
    app: FastAPI, routes: list[Route], factory: Factory
) -> None:
    listings: list[Listing] = app.state.panel.listings
    assert len(listings) >= LISTINGS, f"the scan saw only {len(listings)} listings"
    await factory.superuser.execute(ONE_GRANT, new_id(), (colleague := await factory.person(staff=True)).id)
    async with await factory.client(colleague, "password", "totp") as staff:
        found = await unpaged((listing.path for listing in listings), staff)
        assert len(await unpaged(["/staff", "/staff/switches"], staff)) == 2, "pages without a cursor are not told"
    assert not [*unsearchable(listings), *never_taken_away(listings, routes), *found]


def test_a_list_without_a_search_or_a_csv_is_found() -> None:
    class Picked(Input):
        state: Literal["open", "done"] = "open"

    async def list_probes(ctx: object, wanted: Picked, page: object) -> None: ...

    bare = Listing("/staff/probe", "Probe", list_probes, (Column("Id", "id"),), Picked)
    [searched], [taken] = unsearchable([bare]), never_taken_away([bare], routes_of(FastAPI()))
    assert "/staff/probe cannot be searched" in searched
    assert "/staff/probe cannot be taken away" in taken
