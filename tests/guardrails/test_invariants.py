"""Invariants: each is checked, a broken one is named and counted, and so is one that could not be checked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from service.core import clock, telemetry
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.database import Database
from service.core.ids import new_id
from service.guardrails import audit, invariants
from service.guardrails.invariants import INVARIANTS, check_invariants, invariant
from service.guardrails.jobs.registry import job_of

if TYPE_CHECKING:
    from tests.guardrails.durability import Acting

pytest_plugins = "tests.guardrails.durability"


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    known = dict(INVARIANTS)
    for name in set(INVARIANTS) - {"parents_of_the_same_tenant", "audit_is_sealed", "jobs_move"}:
        del INVARIANTS[name]
    yield
    INVARIANTS.clear()
    INVARIANTS.update(known)


@pytest.fixture(autouse=True)
async def _clean(own_superuser: asyncpg.Connection[Any]) -> AsyncIterator[None]:
    await own_superuser.execute("TRUNCATE pgqueuer, invariant_results")
    yield
    await own_superuser.execute("DROP TABLE IF EXISTS invariant_children, invariant_parents")


async def check(maintenance: Database, resources: Resources) -> tuple[dict[str, float], dict[str, Any]]:
    """Run the periodic job's body; the gauges afterwards, and what was logged about each broken invariant."""
    async with maintenance.unit_of_work() as work:
        with capture_logs() as logged:
            await check_invariants(Context(work, resources, SYSTEM, Caller("check")))
    await invariants.measure(resources)
    values = {
        name: telemetry.REGISTRY.get_sample_value("invariant_violations", {"name": name}) or 0.0 for name in INVARIANTS
    }
    return values, {entry["invariant"]: entry["examples"] for entry in logged if entry["event"] == "invariant broken"}


async def test_a_sound_database_breaks_no_invariant(own_maintenance: Database, own_resources: Resources) -> None:
    values, broken = await check(own_maintenance, own_resources)
    assert len(values) == 3
    assert set(values.values()) == {0.0}
    assert broken == {}


async def test_a_broken_one_is_named_counted_and_mended_later(
    own_maintenance: Database, own_resources: Resources
) -> None:
    culprits: list[object] = [new_id(), new_id()]

    @invariant("tests_hold", "Nothing is on the list.")
    async def listed(ctx: Context) -> Sequence[object]:
        assert await ctx.work.raw.fetchval("SELECT current_user") == "ballast_maintenance"
        return culprits

    values, broken = await check(own_maintenance, own_resources)
    assert values["tests_hold"] == 2
    assert broken == {"tests_hold": culprits}
    culprits.clear()
    values, broken = await check(own_maintenance, own_resources)
    assert values["tests_hold"] == 0
    assert broken == {}


async def test_it_bites_without_its_line_the_corruption_stays_unseen(
    own_maintenance: Database, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    await own_superuser.execute(
        "INSERT INTO pgqueuer (priority, status, entrypoint, execute_after)"
        " VALUES (0, 'queued', 'x', now() - interval '2 days')"
    )
    _, broken = await check(own_maintenance, own_resources)
    assert set(broken) == {"jobs_move"}
    del INVARIANTS["jobs_move"]  # what `@invariant(...)` above the check puts there
    _, broken = await check(own_maintenance, own_resources)
    assert broken == {}


async def test_a_check_that_cannot_run_counts_and_stops_no_other(
    own_maintenance: Database, own_resources: Resources
) -> None:
    @invariant("a_broken_check", "Its statement is wrong.")
    async def wrong(ctx: Context) -> Sequence[object]:
        return list(await ctx.work.raw.fetch("SELECT * FROM nowhere"))

    @invariant("z_after_it", "It comes after the broken one.")
    async def fine(ctx: Context) -> Sequence[object]:
        return [await ctx.work.raw.fetchval("SELECT 7")]

    values, broken = await check(own_maintenance, own_resources)
    assert (values["a_broken_check"], values["z_after_it"]) == (1, 1)
    assert broken == {"a_broken_check": ["not checked: UndefinedTableError"], "z_after_it": [7]}


async def test_a_row_whose_parent_is_another_organizations_is_found(
    own_maintenance: Database, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    mine, other, parent = new_id(), new_id(), new_id()
    await own_superuser.execute(
        "CREATE TABLE invariant_parents (id uuid PRIMARY KEY, organization_id uuid,"
        " above uuid REFERENCES invariant_parents, UNIQUE (organization_id, id));"
        "CREATE TABLE invariant_children (organization_id uuid, parent uuid REFERENCES invariant_parents);"
        "GRANT SELECT ON invariant_parents, invariant_children TO ballast_maintenance"
    )
    await own_superuser.execute("INSERT INTO invariant_parents VALUES ($1, $2)", parent, mine)
    await own_superuser.execute("INSERT INTO invariant_children VALUES ($1, $2)", mine, parent)
    values, _ = await check(own_maintenance, own_resources)
    assert values["parents_of_the_same_tenant"] == 0
    await own_superuser.execute("INSERT INTO invariant_children VALUES ($1, $2)", other, parent)
    await own_superuser.execute("INSERT INTO invariant_parents VALUES ($1, $2, $3)", new_id(), other, parent)
    values, broken = await check(own_maintenance, own_resources)
    assert values["parents_of_the_same_tenant"] == 2
    assert broken["parents_of_the_same_tenant"] == [str(other)] * 2
    # It bites: with the tenant in the key, PostgreSQL would have refused the row in the first place.
    await own_superuser.execute(
        "ALTER TABLE invariant_children ADD FOREIGN KEY (organization_id, parent)"
        " REFERENCES invariant_parents (organization_id, id) NOT VALID"
    )
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await own_superuser.execute("INSERT INTO invariant_children VALUES ($1, $2)", other, parent)


async def test_a_log_that_nobody_seals_is_found(
    acting: Acting, own_maintenance: Database, own_resources: Resources
) -> None:
    async with acting() as ctx:
        await audit.record(ctx, "things.touch", audit.Changes(), {})
    values, _ = await check(own_maintenance, own_resources)
    assert values["audit_is_sealed"] == 0
    clock.advance(timedelta(seconds=90))
    values, broken = await check(own_maintenance, own_resources)
    assert values["audit_is_sealed"] == 1
    assert broken["audit_is_sealed"][0].startswith("9")


async def test_a_job_that_nobody_runs_is_found(
    own_maintenance: Database, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    await own_superuser.execute(
        "INSERT INTO pgqueuer (priority, status, entrypoint, execute_after) VALUES"
        " (0, 'queued', 'x', now() - interval '25 hours'), (0, 'queued', 'x', now() - interval '23 hours'),"
        " (0, 'picked', 'x', now() - interval '2 days'), (0, 'failed', 'x', now() - interval '2 days')"
    )
    values, _ = await check(own_maintenance, own_resources)
    assert values["jobs_move"] == 2


def test_the_checks_run_every_quarter_of_an_hour_as_maintenance() -> None:
    found = job_of(check_invariants)
    assert (found.schedule, found.maintenance) == ("*/15 * * * *", True)


def test_two_invariants_cannot_have_one_name() -> None:
    with pytest.raises(ValueError, match="jobs_move"):
        invariant("jobs_move", "Again.")(invariants.stuck_jobs)
