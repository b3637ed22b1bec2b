"""Every route, asked over HTTP by everybody there is: what each may reach equals a file that people review.

`python -m pytest tests/architecture/test_role_matrix.py --write-role-matrix` writes the file anew.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from service.core import clock
from service.core.ids import new_id
from service.guardrails.permissions import Role
from tests.architecture.conftest import Route
from tests.support.client import HIDDEN, Client
from tests.support.factories import Factory, Person

REVIEWED = Path(__file__).parent / "role_matrix.txt"
READING = {"at": "2026-01-01T00:00:00Z", "value": 1}
BODIES: dict[str, dict[str, Any]] = {
    "POST /api/v1/indicators": {"name": "Asked by everybody"},
    "POST /api/v1/indicators/{indicator_id}/readings": READING,
    "POST /api/v1/indicators/{indicator_id}/readings/batch": {"readings": [READING]},
    "PUT /api/v1/indicators/{indicator_id}/readings/{at}": {"value": 2},
    "POST /api/v1/organizations/current/invitations": {"email": "asked@example.com", "role": "viewer"},
    "POST /members/{membership_id}/role": {"role": "member"},
}
"""Where the shape of the body is checked before the permission, a right one is sent."""

PEOPLE = ("anonymous", "stranger", "viewer", "member", "admin", "owner", "staff")


async def plant(factory: Factory) -> tuple[dict[str, Person | None], dict[str, str]]:
    """One organization with everybody in it and one of each thing, and the people outside."""
    organization = await factory.organization()
    people: dict[str, Person | None] = {"anonymous": None, "stranger": await factory.person(Role.OWNER)}
    for role in Role:
        people[role.label] = await factory.person(role, organization)
    people["staff"] = await factory.person(staff=True)
    target = await factory.person(Role.VIEWER, organization)
    membership = await factory.superuser.fetchval("SELECT id FROM memberships WHERE user_id = $1", target.id)
    at = clock.now().replace(microsecond=0)
    indicator = await factory.indicator(organization)
    await factory.superuser.execute(
        "INSERT INTO readings (organization_id, indicator_id, at, value) VALUES ($1, $2, $3, 1)",
        organization, indicator, at,
    )  # fmt: skip
    things = {
        "indicator_id": str(indicator),
        "membership_id": str(membership),
        "invitation_id": str(await invitation(factory, organization)),
        "organization_id": str(organization),
        "at": at.isoformat().replace("+00:00", "Z"),
        "form": "csv",
    }
    return people, things


async def invitation(factory: Factory, organization: UUID) -> UUID:
    identifier, now = new_id(), clock.now()
    email = f"i{identifier.hex[-10:]}@example.com"
    await factory.superuser.execute(
        "INSERT INTO invitations (id, organization_id, email, role, sendings, token_hash, created_at, expires_at)"
        " VALUES ($1, $2, $3, 'viewer', 1, $4, $5, $6)",
        identifier, organization, email, identifier.bytes, now, now + timedelta(days=7),
    )  # fmt: skip
    return identifier


def address(route: Route, things: dict[str, str]) -> str:
    path = re.sub(r"{([a-z_]+)(:[a-z]+)?}", lambda match: things.get(match[1], uuid4().hex), route.path)
    if path.endswith("/aggregates"):
        path += "?since=2026-01-01T00:00:00Z&until=2026-01-02T00:00:00Z"
    return path


async def ask(client: Client, route: Route, path: str, csrf: str) -> httpx.Response:
    headers = {"x-csrf-token": csrf, "origin": client.origin}
    if route.is_api:
        headers |= {"accept": "application/json", "idempotency-key": uuid4().hex}
    if route.method == "GET":
        return await client.http.get(path, headers=headers)
    values = BODIES.get(str(route), {})
    body: dict[str, Any] = {"json": values} if route.is_api else {"data": {"csrf": csrf, **values}}
    return await client.http.request(route.method, path, headers=headers, **body)


def verdict(answer: httpx.Response, person: Person | None) -> str:
    """What the answer means for access; whether the values were right is not the question here."""
    assert answer.status_code < 500, f"{answer.request.method} {answer.request.url}: {answer.text[:500]}"
    location = answer.headers.get("location", "")
    if answer.status_code == 401 or (person is None and location.split("?")[0] == "/login"):
        return "login"
    if location.startswith("/confirm"):
        return "confirm"
    if location.startswith("/organizations/new") or "no-organization" in answer.text[:300]:
        return "no-organization"
    return {403: "no", 404: "404"}.get(answer.status_code, "yes")


async def csrf_of(client: Client, person: Person | None) -> str:
    if person is not None:
        return client.csrf
    page = (await client.http.get("/login")).text
    return str(dict(HIDDEN.findall(page))["csrf"])


async def row(route: Route, factory: Factory) -> str:
    people, things = await plant(factory)
    path = address(route, things)
    found = []
    for name in PEOPLE:
        person = people[name]
        async with await factory.client(person, "password", "totp") as client:
            answer = await ask(client, route, path, await csrf_of(client, person))
        found.append(f"{name}={verdict(answer, person)}")
    return f"{route!s:62} {' '.join(found)}"


async def test_roles_reach_what_the_reviewed_file_says(
    routes: list[Route], factory: Factory, pytestconfig: pytest.Config
) -> None:
    now = [await row(route, factory) for route in sorted(routes, key=lambda route: (route.path, route.method))]
    if pytestconfig.getoption("--write-role-matrix"):
        REVIEWED.write_text("".join(f"{line}\n" for line in now))
    reviewed = REVIEWED.read_text().splitlines()
    assert now == reviewed, (
        f"now: {sorted(set(now) - set(reviewed))}\nreviewed: {sorted(set(reviewed) - set(now))}\n"
        "If the change is meant, run with --write-role-matrix and have the diff of role_matrix.txt reviewed"
    )


def test_strangers_reach_nothing_of_an_organization() -> None:
    """The file itself is checked too: a foreign id never answers like one's own."""
    rows = [
        line for line in REVIEWED.read_text().splitlines() if re.search(r"{(indicator|membership|invitation)_id", line)
    ]
    assert len(rows) >= 20
    leaks = [line for line in rows if "stranger=404" not in line and "stranger=no" not in line]
    assert not leaks, f"another organization's owner reaches: {leaks}"
