"""Jobs: committed or gone with the change, by the clock, traced and counted. The rest: test_jobs_*.py."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest
from structlog.testing import capture_logs

from service.core import telemetry
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.database import UnitOfWork
from service.core.ids import new_id
from service.guardrails import audit, jobs
from service.guardrails.jobs import Event, Retry
from service.guardrails.jobs.registry import JOBS, job_of
from tests.guardrails.jobs_at_work import ADA, drain, effect, effects, states, until, working

if TYPE_CHECKING:
    from tests.guardrails.durability import Acting

pytest_plugins = "tests.guardrails.durability"
pytestmark = pytest.mark.usefixtures("empty_queue")

ROOT = Path(__file__).resolve().parents[2]


async def test_a_job_runs_after_the_commit_as_the_system_on_behalf_of_who_enqueued_it(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    seen: list[Any] = []

    @jobs.job()
    async def look(ctx: Context, thing: UUID, when: timedelta, names: list[str]) -> None:
        user = await ctx.work.raw.fetchval("SELECT current_setting('app.user')")
        role = await ctx.work.raw.fetchval("SELECT current_user")
        seen.append((ctx.actor, ctx.on_behalf_of, ctx.organization_id, ctx.caller.request_id, user, role))
        seen.append((thing, when, names))

    tenant, thing = new_id(), new_id()
    async with acting(tenant=tenant, actor=ADA, request_id="req-9") as ctx:
        await jobs.enqueue(ctx, look, thing=thing, when=timedelta(hours=1), names=["a"])
    await drain(own_resources)
    assert str(seen[0][0]) == "system"
    assert seen[0][1:] == (ADA, tenant, "req-9", str(ADA.id), "ballast_app")
    assert seen[1] == (thing, timedelta(hours=1), ["a"])
    assert await states(own_superuser) == {}


async def test_a_rollback_leaves_no_job(acting: Acting, own_superuser: asyncpg.Connection[Any]) -> None:
    @jobs.job()
    async def never(ctx: Context) -> None: ...

    async def fail_halfway() -> None:
        async with acting() as ctx:
            await jobs.enqueue(ctx, never)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_halfway()
    assert await states(own_superuser) == {}


async def test_a_connection_outside_a_transaction_is_refused_because_its_job_would_survive(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It bites: without the check, the job of a change that never was is in the queue."""

    @jobs.job()
    async def never(ctx: Context) -> None: ...

    async def fail_outside_a_transaction() -> None:
        async with own_resources.database.connection() as connection:
            ctx = Context(UnitOfWork(connection), own_resources, SYSTEM, Caller("r"))  # nobody called begin()
            await jobs.enqueue(ctx, never)
            raise ZeroDivisionError

    with pytest.raises(RuntimeError, match="inside a unit of work"):
        await fail_outside_a_transaction()
    monkeypatch.setattr(asyncpg.Connection, "is_in_transaction", lambda _: True)
    with pytest.raises(ZeroDivisionError):
        await fail_outside_a_transaction()
    assert await states(own_superuser) == {"queued": 1}


async def test_a_wrong_argument_is_refused_where_the_job_is_enqueued(acting: Acting) -> None:
    @jobs.job()
    async def greet(ctx: Context, name: str) -> None: ...

    async def no_job(ctx: Context) -> None: ...

    async with acting() as ctx:
        with pytest.raises(TypeError, match="nmae"):
            await jobs.enqueue(ctx, greet, name="x", nmae="y")
        with pytest.raises(TypeError, match="name"):
            await jobs.enqueue(ctx, greet)
        with pytest.raises(LookupError, match="@job"):
            await jobs.enqueue(ctx, no_job)


async def test_an_action_starts_the_jobs_that_subscribed_to_it(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    async def archive() -> None: ...

    heard: list[Event] = []

    @jobs.on(archive)
    async def tell(ctx: Context, event: Event) -> None:
        heard.append(event)

    @jobs.on(archive, key="object_id")
    async def count(ctx: Context, event: Event) -> None:
        await effect(ctx, event.facts["n"])

    happened = Event("things.archive", "things", new_id(), {"n": 7})
    async with acting() as ctx:
        await jobs.announce(ctx, archive, happened)
        await jobs.announce(ctx, drain, happened)  # nobody subscribed to that
    lines = await own_superuser.fetch("SELECT headers ->> 'line' AS line FROM pgqueuer ORDER BY id")
    assert [row["line"] for row in lines] == [None, f"None:tests.count:{happened.object_id}"]
    await drain(own_resources)
    assert heard == [happened]
    assert await effects(own_superuser) == ["7"]


async def test_a_delayed_job_waits(acting: Acting, own_resources: Resources, own_superuser: Any) -> None:
    @jobs.job()
    async def later(ctx: Context) -> None:
        await effect(ctx, "later")

    async with acting() as ctx:
        await jobs.enqueue(ctx, later, delay=timedelta(hours=1))
    await drain(own_resources)
    assert await effects(own_superuser) == []
    assert await states(own_superuser) == {"queued": 1}


async def test_what_other_organizations_jobs_carry_cannot_be_read(
    acting: Acting, own_superuser: asyncpg.Connection[Any]
) -> None:
    async with acting(tenant=new_id()) as ctx:
        assert await ctx.work.raw.fetchval("SELECT count(*) FROM pgqueuer WHERE status = 'queued'") == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ctx.work.raw.fetch("SELECT payload FROM pgqueuer")
        await ctx.work.abandon()


async def test_a_periodic_job_runs_as_maintenance_and_once_for_two_workers(
    own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    @jobs.periodic("* * * * * *")
    async def tick(ctx: Context) -> None:
        await effect(ctx, await ctx.work.raw.fetchval("SELECT current_user || ' ' || date_trunc('second', now())"))

    async with working(own_resources, workers=2):
        await until(lambda: _two_effects(own_superuser))
    done = await effects(own_superuser)
    assert all(what.startswith("ballast_maintenance ") for what in done)
    assert len(set(done)) == len(done), "two workers ticked in the same second"


async def _two_effects(superuser: asyncpg.Connection[Any]) -> bool:
    return len(await effects(superuser)) >= 2


async def test_the_trace_of_the_request_goes_on_in_the_job(acting: Acting, own_resources: Resources) -> None:
    traces: list[str] = []

    @jobs.job()
    async def look(ctx: Context) -> None:
        trace = telemetry.current_trace()
        assert trace is not None
        traces.append(trace.hex)

        await jobs.enqueue(ctx, look_further)

    @jobs.job()
    async def look_further(ctx: Context) -> None:
        trace = telemetry.current_trace()
        assert trace is not None
        traces.append(trace.hex)
        traces.append(str(ctx.on_behalf_of))
        traces.append(ctx.caller.request_id)

    from opentelemetry.trace import SpanKind

    with telemetry.root_span("GET /", SpanKind.SERVER) as trace:
        async with acting(actor=ADA, request_id="req-11") as ctx:
            await jobs.enqueue(ctx, look)
    with capture_logs() as logged:
        await drain(own_resources)
    assert traces == [trace.hex, trace.hex, str(ADA), "req-11"]
    assert [entry["outcome"] for entry in logged if entry["event"] == "job"] == ["done", "done"]


async def test_a_job_without_a_known_body_stays_until_somebody_knows_it(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    @jobs.job()
    async def removed(ctx: Context) -> None: ...

    async with acting() as ctx:
        await jobs.enqueue(ctx, removed)
    del JOBS[job_of(removed).name]

    @jobs.job()
    async def other(ctx: Context) -> None: ...

    await drain(own_resources)
    assert await states(own_superuser) == {"queued": 1}


async def test_metrics_tell_what_waits_what_failed_and_whether_anybody_works(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    @jobs.job()
    async def idle(ctx: Context) -> None: ...

    await own_superuser.execute("TRUNCATE worker_heartbeats")
    await jobs.measure(own_resources)
    assert _value("worker_heartbeat_age_seconds") == float("inf")
    async with acting() as ctx:
        for _ in range(3):
            await jobs.enqueue(ctx, idle)
        await jobs.enqueue(ctx, idle, delay=timedelta(hours=1))
    await own_superuser.execute(
        "UPDATE pgqueuer SET status = 'failed' WHERE id = (SELECT min(id) FROM pgqueuer);"
        "UPDATE pgqueuer SET execute_after = now() - interval '90 s' WHERE id = (SELECT min(id) + 1 FROM pgqueuer);"
        "INSERT INTO worker_heartbeats VALUES (gen_random_uuid(), now() - interval '30 s', 1.5)"
    )
    await jobs.measure(own_resources)
    ages = await own_superuser.fetchrow(
        "SELECT extract(epoch FROM now() - execute_after) AS job,"
        " (SELECT extract(epoch FROM now() - beat_at) FROM worker_heartbeats) AS beat"
        " FROM pgqueuer ORDER BY execute_after LIMIT 1"
    )
    assert (_value("jobs_ready"), _value("jobs_failed")) == (2, 1)
    assert 90 <= _value("jobs_oldest_age_seconds") <= ages["job"]
    assert 30 <= _value("worker_heartbeat_age_seconds") <= ages["beat"]
    assert _value("audit_seal_lag_seconds") == 1.5


def _value(name: str) -> float:
    found = telemetry.REGISTRY.get_sample_value(name)
    assert found is not None
    return found


async def test_security_events_of_a_job_are_written(
    acting: Acting, own_resources: Resources, own_superuser: asyncpg.Connection[Any]
) -> None:
    @jobs.job(retry=Retry(attempts=1))
    async def suspicious(ctx: Context) -> None:
        ctx.note("things.look", "denied")
        await audit.record(ctx, "things.touch", audit.Changes(), {})
        raise ConnectionError

    async with acting(tenant=new_id(), actor=ADA) as ctx:
        await jobs.enqueue(ctx, suspicious)
    await drain(own_resources)
    (row,) = await own_superuser.fetch(
        "SELECT action, actor_kind, on_behalf_of FROM audit_log ORDER BY id DESC LIMIT 1"
    )
    assert tuple(row) == ("things.look", "system", ADA.id)


def test_two_jobs_cannot_have_one_name() -> None:
    async def twin(ctx: Context) -> None: ...

    jobs.job()(twin)
    with pytest.raises(ValueError, match="twin"):
        jobs.job()(twin)


def test_the_migration_holds_exactly_what_this_version_of_the_library_installs() -> None:
    """After an upgrade of pgqueuer: write a migration with `pgq upgrade --plan`, then renew this file."""
    from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment

    stored = (ROOT / "migrations" / "sql" / "jobs_pgqueuer.sql").read_text()
    assert QueryBuilderEnvironment().build_install_query().strip() in stored
