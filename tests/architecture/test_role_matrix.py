"""Every route, asked over HTTP by everybody there is: what each may reach equals a file that people review.

The API is asked by the program of each: with a key of their role and all scopes. Staff have none: their cookie is not
enough.

`python -m pytest tests/architecture/test_role_matrix.py --write-role-matrix` writes the file anew.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from service.guardrails.permissions import Role
from service.guardrails.rate_limits import API, READ, policy_of
from service.guardrails.uploads.policy import upload_policy_of
from tests.architecture.conftest import Route
from tests.architecture.planted import NOBODY, WORDS, Owner, address
from tests.architecture.test_routes import policies_of
from tests.support.client import HIDDEN, Client
from tests.support.factories import Factory

REVIEWED = Path(__file__).parent / "role_matrix.txt"
READING = {"at": "2026-01-01T00:00:00Z", "value": 1}

BODIES: dict[str, dict[str, Any]] = {
    "POST /api/v1/indicators": {"name": "Asked by everybody"},
    "POST /api/v1/indicators/{indicator_id}/readings": READING,
    "POST /api/v1/indicators/{indicator_id}/readings/batch": {"readings": [READING]},
    "POST /api/v1/indicators/readings/batch": {
        "readings": [READING | {"indicator_id": str(uuid4())}],
        "mode": "skip_bad",
    },
    "POST /api/v1/webhooks": {"url": "https://127.0.0.1:8443/", "event_types": ["plan.changed"]},
    "POST /api/v1/webhooks/{endpoint_id}/replays": {"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"},
    "PUT /api/v1/indicators/{indicator_id}/readings/{at}": {"value": 2},
    "POST /members/{membership_id}/role": {"role": "member"},
}
"""Where the shape of the body is checked before the permission, a right one is sent."""

HIDDEN_FROM_INSIDE = {"POST /organizations/{organization_id}/restoration"}
"""A deleted organization exists for its owners alone."""

PEOPLE = ("anonymous", "stranger", "viewer", "member", "admin", "owner", "staff")


async def everybody(factory: Factory) -> tuple[UUID, dict[str, Owner]]:
    """One organization with somebody of each role in it, and the people outside."""
    organization = await factory.organization()
    await factory.plan(organization)
    people: dict[str, Owner] = {"anonymous": None, "stranger": await factory.person(Role.OWNER)}
    for role in Role:
        people[role.label] = await factory.person(role, organization)
    people["staff"] = await factory.person(staff=True)
    return organization, people


async def ask(client: Client, route: Route, path: str, csrf: str) -> httpx.Response:
    # Sent from some page: whoever lacks something is then led back to it, and the answer says so (`?next=`).
    headers = {"x-csrf-token": csrf, "origin": client.origin, "referer": f"{client.origin}/somewhere"}
    if route.is_api:
        headers |= {
            "accept": "application/json",
            "idempotency-key": uuid4().hex,
            **(client.bearer if client.key else {}),
        }
    if route.method == "GET":
        return await client.http.get(path, headers=headers)
    values = BODIES.get(str(route), {})
    body: dict[str, Any] = {"json": values} if route.is_api else {"data": {"csrf": csrf, **values}}
    if upload_policy_of(route.endpoint):
        body = {"data": {"csrf": csrf}, "files": {"file": ("table.csv", b"at,value\n")}}
    return await client.http.request(route.method, path, headers=headers, **body)


def verdict(answer: httpx.Response) -> str:
    """What the answer means for access; whether the values were right is not the question here."""
    said = f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:500]}"
    assert answer.status_code < 500, said
    assert answer.status_code != 429, said
    location = answer.headers.get("location", "")
    if answer.status_code == 401 or location.startswith("/login?next="):
        return "login"
    if location.startswith("/confirm?next="):
        return "confirm"
    # Whoever has none is sent to where they make one; our own people, who need none, to the panel.
    elsewhere = location.startswith(("/organizations/new?next=", "/staff?next="))
    if elsewhere or "no-organization" in answer.text[:300]:
        return "no-organization"
    return {403: "no", 404: "404"}.get(answer.status_code, "yes")


async def csrf_of(client: Client, route: Route, person: Owner) -> str:
    """Public pages have a token of their own, for people who are logged in as well; who only reads sends none."""
    if route.method == "GET":
        return ""
    if person is not None and policies_of(route) != ["public"]:
        return client.csrf
    page = (await client.http.get("/forgot")).text
    return str(dict(HIDDEN.findall(page))["csrf"])


def only_reads(route: Route) -> bool:
    return route.method == "GET" and policy_of(route.endpoint, "GET") in (READ, API)


class Household:
    """Everybody, each with a browser: for one route that changes something or is seldom allowed, or for many reads."""

    READS = 40
    """Of one household; several times as many are allowed in a minute."""

    def __init__(self, factory: Factory, stack: AsyncExitStack) -> None:
        self.factory, self.stack, self.left = factory, stack, 0

    async def move_in(self) -> None:
        await self.stack.aclose()
        self.organization, self.people = await everybody(self.factory)
        self.clients = {
            name: await self.stack.enter_async_context(await self.factory.client(person, "password", "totp"))
            for name, person in self.people.items()
        }
        self.left = self.READS

    async def row(self, route: Route) -> str:
        reads = only_reads(route)
        if self.left == 0 or not reads:
            await self.move_in()
        found = []
        for name in PEOPLE:
            person, client = self.people[name], self.clients[name]
            path = await address(route, self.factory, self.organization, person)
            answer = await ask(client, route, path, await csrf_of(client, route, person))
            found.append(f"{name}={verdict(answer)}")
        self.left = self.left - 1 if reads else 0
        return f"{route!s:62} {' '.join(found)}"


@pytest.fixture
async def nothing_left_for_all(factory: Factory) -> AsyncIterator[None]:
    """Dead letters and switches belong to no organization, so other tests would meet them."""
    yield
    await factory.superuser.execute("DELETE FROM pgqueuer WHERE entrypoint = $1", NOBODY)
    await factory.superuser.execute("DELETE FROM switches WHERE name = $1", WORDS["switch"])


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left_for_all")
async def test_roles_reach_what_the_reviewed_file_says(
    routes: list[Route], factory: Factory, pytestconfig: pytest.Config
) -> None:
    # The reads come first, or each of them would follow upon something that needs a household of its own.
    order = sorted(routes, key=lambda route: (not only_reads(route), route.path, route.method))
    async with AsyncExitStack() as stack:
        household = Household(factory, stack)
        rows = {(route.path, route.method): await household.row(route) for route in order}
    now = [rows[key] for key in sorted(rows)]
    if pytestconfig.getoption("--write-role-matrix"):
        REVIEWED.write_text("".join(f"{line}\n" for line in now))
    reviewed = REVIEWED.read_text().splitlines()
    assert now == reviewed, (
        f"now: {sorted(set(now) - set(reviewed))}\nreviewed: {sorted(set(reviewed) - set(now))}\n"
        "If the change is meant, run with --write-role-matrix and have the diff of role_matrix.txt reviewed"
    )


def cells() -> dict[str, dict[str, str]]:
    """The reviewed file: route -> who -> what they get."""
    found = {}
    for line in REVIEWED.read_text().splitlines():
        method, path, *answers = line.split()
        found[f"{method} {path}"] = dict(answer.split("=", 1) for answer in answers)
    return found


def test_strangers_reach_nothing_of_an_organization() -> None:
    """The file itself is checked too: a foreign id never answers like one's own."""
    rows = {route: who for route, who in cells().items() if re.search(r"{[a-z]+_id}", route)}
    assert len(rows) >= 130, f"the scan saw only {len(rows)} routes that name a thing"
    leaks = [route for route, who in rows.items() if who["stranger"] not in ("404", "no")]
    assert not leaks, f"another organization's owner reaches: {leaks}"


def test_those_inside_are_told_no_and_not_that_nothing_is_there() -> None:
    """A 404 for a role inside means that nothing was there to ask for, and then the file says nothing of the role."""
    blurred = {
        route
        for route, who in cells().items()
        if " /staff" not in route and "404" in (who["viewer"], who["member"], who["admin"], who["owner"])
    }
    assert blurred == HIDDEN_FROM_INSIDE, (
        f"{sorted(blurred ^ HIDDEN_FROM_INSIDE)}: plant what the route names, in THINGS or IN_THE_BIN above"
    )


def test_the_panel_exists_for_staff_alone() -> None:
    rows = {route: who for route, who in cells().items() if " /staff" in route}
    assert len(rows) >= 29, f"the scan saw only {len(rows)} routes of the panel"
    seen = {route for route, who in rows.items() for name, answer in who.items() if name != "staff" and answer != "404"}
    assert not seen, f"{sorted(seen)} tell strangers that they exist: take StaffCtx, which answers 404"
