"""What goes by the clock goes in batches that commit by themselves: no backlog is too long, no lock keeps the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg

from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.ids import new_id
from service.guardrails.inbox import FORGET, forget_bodies
from service.guardrails.jobs.batches import in_batches

if TYPE_CHECKING:
    from tests.guardrails.durability import Acting

pytest_plugins = "tests.guardrails.durability"
OLD = """
    INSERT INTO inbox (source, realm, external_id, type, facts, body, state, reason, attempts, received_at)
    SELECT 'batches', $1, n::text, 'x', '{}', 'a body', 'dead', '', 0, now() - interval '91 days'
    FROM generate_series(1, 7) AS n
"""
LEFT = "SELECT external_id FROM inbox WHERE realm = $1 AND body IS NOT NULL ORDER BY 1"


async def old_messages(superuser: asyncpg.Connection[Any]) -> str:
    realm = new_id().hex
    await superuser.execute("DELETE FROM inbox WHERE source = 'batches'")  # what another test has left
    await superuser.execute(OLD, realm)
    return realm


async def test_each_batch_is_a_transaction_and_a_round_ends(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    realm = await old_messages(own_superuser)
    async with acting() as ctx:
        assert await in_batches(ctx, FORGET, at_once=3, seconds=0) == 3, "time is up: the next round goes on"
        assert len(await own_superuser.fetch(LEFT, realm)) == 4
        assert await in_batches(ctx, FORGET, at_once=3) == 4
    transactions = "SELECT count(DISTINCT xmin::text) FROM inbox WHERE realm = $1"
    assert await own_superuser.fetchval(transactions, realm) == 3


async def test_a_row_that_somebody_holds_keeps_no_other(
    own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    assert own_resources.maintenance is not None
    realm = await old_messages(own_superuser)
    async with own_superuser.transaction():
        await own_superuser.execute("SELECT FROM inbox WHERE realm = $1 AND external_id = '5' FOR UPDATE", realm)
        async with own_resources.maintenance.unit_of_work() as work:
            await forget_bodies(Context(work, own_resources, SYSTEM, Caller("test")))
        assert [row["external_id"] for row in await own_superuser.fetch(LEFT, realm)] == ["5"]
