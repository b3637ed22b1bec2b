"""What the worker does by itself: notice an organization without an owner, remove what was deleted long ago."""

from __future__ import annotations

from datetime import timedelta

from service.app import close_resources, create_resources
from service.core import clock
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.database import Database
from service.core.ids import new_id
from service.core.settings import Settings
from service.features.organizations.jobs import find_ownerless
from service.guardrails.invariants import INVARIANTS
from service.guardrails.purge import purge_expired
from service.guardrails.subjects import address_hash
from tests.features.organizations.conftest import Team


async def ownerless(maintenance: Database, resources: Resources) -> set[str]:
    async with maintenance.unit_of_work(read_only=True) as work:
        return {str(found) for found in await find_ownerless(Context(work, resources, SYSTEM, Caller("test")))}


async def test_an_organization_without_a_living_owner_is_noticed(
    team: Team, maintenance: Database, resources: Resources
) -> None:
    assert INVARIANTS["organizations_have_an_owner"].check is find_ownerless
    home, owner = str(team.organization), team.people["owner"].id
    # The check names twenty at most; what earlier tests planted without an owner must not take their places.
    await team.superuser.execute(
        "UPDATE organizations SET deleted_at = now() WHERE id <> $1 AND deleted_at IS NULL AND NOT EXISTS"
        " (SELECT FROM memberships WHERE organization_id = organizations.id AND role = 'owner')",
        team.organization,
    )
    assert home not in await ownerless(maintenance, resources)
    await team.superuser.execute("UPDATE users SET deleted_at = now() WHERE id = $1", owner)
    assert home in await ownerless(maintenance, resources)
    await team.superuser.execute("UPDATE users SET deleted_at = NULL WHERE id = $1", owner)
    await team.superuser.execute("UPDATE memberships SET role = 'admin' WHERE user_id = $1", owner)
    assert home in await ownerless(maintenance, resources)
    await team.superuser.execute("UPDATE organizations SET deleted_at = now() WHERE id = $1", team.organization)
    assert home not in await ownerless(maintenance, resources), "a deleted one needs nobody"
    await team.superuser.execute("DELETE FROM memberships WHERE organization_id = $1", team.organization)


async def test_thirty_days_after_deletion_everything_in_it_is_gone(team: Team, settings: Settings) -> None:
    await team.factory.indicator(team.organization)
    await team.act(team.admin, "/members/invitations", email=(await team.factory.person()).email, role="viewer")
    name = await team.superuser.fetchval("SELECT name FROM organizations WHERE id = $1", team.organization)
    await team.owner.submit("/organization/deletion", name=name)
    tables = ("memberships", "invitations", "indicators")

    async def left() -> dict[str, int]:
        found = {"organizations": await team.superuser.fetchval(
            "SELECT count(*) FROM organizations WHERE id = $1", team.organization)}  # fmt: skip
        for table in tables:
            found[table] = await team.superuser.fetchval(
                f"SELECT count(*) FROM {table} WHERE organization_id = $1", team.organization
            )
        return found

    worker = create_resources(settings, maintenance=True)
    try:
        clock.advance(timedelta(days=29))
        await purge_expired(worker)
        assert await left() == {"organizations": 1, "memberships": 4, "invitations": 1, "indicators": 1}
        clock.advance(timedelta(days=1, hours=2))
        await purge_expired(worker)
        assert set((await left()).values()) == {0}
    finally:
        await close_resources(worker)
    stranger = team.people["stranger"]
    kept = await team.superuser.fetchval("SELECT count(*) FROM organizations WHERE id = $1", stranger.organization_id)
    assert kept == 1
    history = await team.superuser.fetchval(
        "SELECT count(*) FROM audit_log WHERE organization_id = $1 AND action = 'organizations.delete'",
        team.organization,
    )
    assert history == 1, "the log outlives what it describes"


async def test_a_hold_on_a_person_keeps_what_is_found_by_their_address(team: Team, settings: Settings) -> None:
    """Mails are known by a hash of the address and invitations by the address: no id of a person is in them."""
    held, other = team.people["member"], team.people["stranger"]
    past = clock.now() - timedelta(days=90)
    for person in (held, other):
        await team.superuser.execute(
            "INSERT INTO sent_mails (reference, template, address_hash, state, attempts, first_tried_at, tried_at)"
            " VALUES ($1, 'news', $2, 'accepted', 1, $3, $3)",
            f"held-{person.id}", address_hash(person.email), past,
        )  # fmt: skip
    await team.superuser.execute(
        "INSERT INTO legal_holds (id, subject_id, reason, placed_at) VALUES ($1, $2, 'Smith v. us', now())",
        new_id(), held.id,
    )  # fmt: skip
    worker = create_resources(settings, maintenance=True)
    try:
        await purge_expired(worker)
    finally:
        await close_resources(worker)
        await team.superuser.execute("DELETE FROM legal_holds WHERE subject_id = $1", held.id)
    left = await team.superuser.fetch("SELECT reference FROM sent_mails WHERE reference LIKE 'held-%'")
    assert [row["reference"] for row in left] == [f"held-{held.id}"]
