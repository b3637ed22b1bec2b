"""Restricted data are kept: the nightly cleaning leaves them alone, and takes them up once the restriction ends."""

from __future__ import annotations

from typing import Any

from service.core.context import Resources
from service.core.database import Database
from service.core.ids import new_id
from service.guardrails.permissions import Role
from service.guardrails.purge import purge_expired
from tests.support.factories import Factory, Person

CHOICES = "/privacy/choices"


async def old_news(factory: Factory, person: Person) -> None:
    await factory.superuser.execute(
        "INSERT INTO notifications (id, organization_id, user_id, kind, text, href, key, created_at)"
        " VALUES ($1, $2, $3, 'role_changed', 'You are admin now.', '/members', 'x', now() - interval '99 days')",
        new_id(), person.organization_id, person.id,
    )  # fmt: skip


async def test_retention_leaves_alone_whose_data_rest(
    factory: Factory, resources: Resources, maintenance: Database, superuser: Any
) -> None:
    worker = Resources(resources.settings, resources.database, resources.redis, maintenance)
    resting, other = [await factory.person(Role.OWNER) for _ in range(2)]

    async def left() -> set[Any]:
        while await purge_expired(worker):
            pass
        found = "SELECT user_id FROM notifications WHERE user_id = ANY($1)"
        return {row["user_id"] for row in await superuser.fetch(found, [resting.id, other.id])}

    async with await factory.client(resting) as client:
        asked = await client.submit("/privacy/restriction", page=CHOICES, reason="I need it for a lawsuit.")
        assert asked.status_code == 303
        for person in (resting, other):
            await old_news(factory, person)
        assert await left() == {resting.id}
        ended = await client.submit("/privacy/restriction/end", page=CHOICES)
        assert ended.status_code == 303
    assert await left() == set()
