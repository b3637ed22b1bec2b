"""Who a session's person is: one statement, right in every state a person and an organization can be in."""

from __future__ import annotations

import re
from uuid import UUID

import pytest

from service.core import clock
from service.core.context import Resources
from service.features.organizations.queries import IDENTIFY, identify
from service.guardrails.contexts import Identity
from service.guardrails.permissions import Role
from tests.features.organizations.conftest import Team
from tests.support.captured_sql import sent_here
from tests.support.factories import Factory, Person


async def found(resources: Resources, factory: Factory, person: Person) -> tuple[Identity | None, UUID | None]:
    """The identity, and for which organization row-level security is open afterwards."""
    _, login = await factory.log_in(person)
    async with resources.database.unit_of_work(tenant=login.organization_id, user=login.user_id) as work:
        return await identify(work, login), work.tenant


async def test_a_member_is_identified_with_one_statement(team: Team, resources: Resources) -> None:
    person = team.people["admin"]
    with sent_here() as seen:
        identity, tenant = await found(resources, team.factory, person)
    assert identity is not None
    assert (identity.user_id, identity.email, identity.organization_id) == (person.id, person.email, team.organization)
    assert (identity.role, tenant) == (Role.ADMIN, team.organization)
    assert len([sql for sql in seen if "memberships" in sql]) == 1
    assert len(seen) == 1


async def test_the_policies_cost_every_request_nothing_but_a_comparison(team: Team, resources: Resources) -> None:
    """PostgreSQL asks them in an order that follows from their names; the wrong name costs two more scans each time."""
    person = team.people["member"]
    async with resources.database.unit_of_work(tenant=team.organization, user=person.id) as work:
        sql, values = IDENTIFY.bind({"now": clock.now()}, tenant=team.organization, user=person.id)
        rows = await work.raw.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {sql}", *values)
    plan = "\n".join(row[0] for row in rows)
    subplans = re.findall(r"SubPlan \d+\n.*", plan)
    assert len(subplans) == 2, plan
    assert all("(never executed)" in subplan for subplan in subplans), plan


@pytest.mark.parametrize("state", ["no organization", "removed", "organization deleted", "somebody else's"])
async def test_without_a_place_there_is_no_organization_and_nothing_of_it_to_see(
    team: Team, resources: Resources, state: str
) -> None:
    person = team.people["member"]
    if state == "no organization":
        person = await team.factory.person()
    elif state == "removed":
        await team.superuser.execute("DELETE FROM memberships WHERE user_id = $1", person.id)
    elif state == "organization deleted":
        await team.superuser.execute("UPDATE organizations SET deleted_at = now() WHERE id = $1", team.organization)
    else:
        stranger = team.people["stranger"]
        person = Person(stranger.id, stranger.email, team.organization, Role.OWNER)
    identity, tenant = await found(resources, team.factory, person)
    assert identity is not None
    assert (identity.organization_id, identity.organization_name, identity.role) == (None, None, None)
    assert tenant is None, "row-level security would go on showing the organization"


async def test_a_deleted_account_is_nobody(team: Team, resources: Resources) -> None:
    person = team.people["member"]
    await team.superuser.execute("UPDATE users SET deleted_at = now() WHERE id = $1", person.id)
    identity, _ = await found(resources, team.factory, person)
    assert identity is None
    answer = await team.member.get("/members")
    assert answer.headers["location"].startswith("/login")
