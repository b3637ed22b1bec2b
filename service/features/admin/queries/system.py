"""How the service is doing, as rows with a plain state; no customer's data is among it."""

from __future__ import annotations

import asyncio
import platform
from importlib.metadata import version

from sqlalchemy import literal_column, select

from service.core import clock, migrate
from service.core.context import Context
from service.core.redis import LOST
from service.core.statements import Prepared
from service.features.admin.schemas import System, Verification
from service.guardrails import audit, processes
from service.guardrails.actions import query
from service.guardrails.invariants import INVARIANTS, InvariantResult
from service.guardrails.jobs import JOBS
from service.guardrails.jobs.queue import WorkerHeartbeat
from service.guardrails.jobs.runs import PeriodicRun, is_late
from service.guardrails.permissions import Who
from service.guardrails.processes import Process
from service.web.system_facts import Fact, State, by_age

LIBRARIES = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "asyncpg", "pydantic", "redis", "pgqueuer", "jinja2")
SHOWN = 20
SILENT_SECONDS = 30
VERSIONS = """
    SELECT current_setting('server_version') AS postgresql, (SELECT version_num FROM alembic_version LIMIT 1) AS schema
"""
QUEUE = f"""
    SELECT entrypoint AS name, count(*) AS due, extract(epoch FROM now() - min(execute_after))::float8 AS oldest
    FROM pgqueuer WHERE status = 'queued' AND execute_after <= now() GROUP BY entrypoint ORDER BY oldest DESC
    LIMIT {SHOWN}
"""  # noqa: S608 - a constant
WORKERS = Prepared(
    select(WorkerHeartbeat.worker_id, WorkerHeartbeat.beat_at, WorkerHeartbeat.seal_lag_seconds)
    .order_by(WorkerHeartbeat.beat_at.desc())
    .limit(literal_column(str(SHOWN)))
)
RUNS = Prepared(select(PeriodicRun.name, PeriodicRun.ran_at, PeriodicRun.milliseconds))
RESULTS = Prepared(
    select(InvariantResult.name, InvariantResult.violations, InvariantResult.checked_at).order_by(InvariantResult.name)
)
STATES = ("closed", "one call tries", "open")
RUNBOOKS = {
    "stripe": "StripeAway",
    "scanner": "FilesWaiting",
    "storage": "FilesWaiting",
    "mail": "MailLate",
    "sendgrid": "MailLate",
}


@query("admin.system", requires=Who.STAFF)
async def get_system(ctx: Context) -> System:
    """Everything but what features add."""
    try:
        async with asyncio.timeout(1):
            alive, redis = await processes.living(ctx.resources), await ctx.resources.redis.info("server")
            store = Fact("Redis", str(redis.get("redis_version", "?")), "good", "RedisLost")
    except LOST:
        alive, store = [], Fact("Redis", "does not answer", "bad", "RedisLost")
    [row] = await ctx.work.raw.fetch(VERSIONS)
    return System(
        versions=[
            *_versions(ctx, alive, row["schema"]),
            Fact("PostgreSQL", row["postgresql"]),
            store,
            *(Fact(name, version(name)) for name in LIBRARIES),
        ],
        queue=[
            Fact(one["name"], f"{one['due']:,} due, the oldest for {one['oldest']:.0f} s",
                 by_age(one["oldest"], 60, 900), "WorkerStalled")
            for one in await ctx.work.raw.fetch(QUEUE)
        ],
        workers=await _workers(ctx),
        periodic=await _periodic(ctx),
        breakers=_breakers(alive),
        processes=alive,
        invariants=await _invariants(ctx),
        verification=await _verification(ctx),
    )  # fmt: skip


def _versions(ctx: Context, alive: list[Process], schema: str | None) -> list[Fact]:
    here, code = ctx.settings.revision, migrate.head()
    others = {one.revision for one in alive} - {here}
    ahead = schema not in migrate.revisions()
    state: State = "good" if schema == code else "look" if ahead else "bad"
    found = [
        Fact("Revision", here if not others else f"{here}; others run {', '.join(sorted(others))}",
             "look" if others else "good"),
        Fact("Python", platform.python_version()),
        Fact("Schema", code if schema == code else f"the code wants {code}, the database has {schema}", state),
    ]  # fmt: skip
    for worker in alive:
        if worker.kind == "worker":
            value = worker.store or "can be reached"
            found.append(Fact("Object store", value, "bad" if worker.store else "good", "FilesWaiting"))
    return found


async def _workers(ctx: Context) -> list[Fact]:
    now, rows = clock.now(), await ctx.fetch(WORKERS)
    ages = [(row, (now - row["beat_at"]).total_seconds()) for row in rows]
    living = [(row, age) for row, age in ages if age < SILENT_SECONDS]
    if not living:
        since = f"the last was heard {ages[0][1]:.0f} s ago" if ages else "none was ever heard"
        return [Fact("Workers", f"none lives; {since}", "bad", "WorkerStalled")]
    lag = max(row["seal_lag_seconds"] for row, _ in living)
    seal = Fact("Audit log", f"sealed up to {lag:.0f} s ago", by_age(lag, 30, 60), "InvariantBroken")
    return [
        *(
            Fact(f"Worker {str(row['worker_id'])[-8:]}", f"heard {max(0, age):.0f} s ago", "good")
            for row, age in living
        ),
        seal,
    ]


async def _periodic(ctx: Context) -> list[Fact]:
    now, found = clock.now(), []
    ran = {row["name"]: row for row in await ctx.fetch(RUNS)}
    for job in sorted(JOBS.values(), key=lambda one: one.name):
        if not job.schedule:
            continue
        if (row := ran.get(job.name)) is None:
            found.append(Fact(job.name, f"not yet ({job.schedule})", "look", "WorkerStalled"))
            continue
        late = is_late(job.schedule, row["ran_at"], now)
        value = f"{row['ran_at']:%-d %b %H:%M} UTC, took {row['milliseconds']:,} ms ({job.schedule})"
        found.append(Fact(job.name, value, "look" if late else "good", "WorkerStalled"))
    return found


def _breakers(alive: list[Process]) -> list[Fact]:
    """One row for each peer: the worst of what the processes say, and who says it."""
    found = []
    for name in sorted({name for one in alive for name in one.breakers}):
        said = [(one.breakers[name], one) for one in alive if name in one.breakers]
        worst = max(state for state, _ in said)
        who = ", ".join(f"{one.kind} {one.id[-8:]}" for state, one in said if state == worst)
        value = STATES[worst] if worst == 0 else f"{STATES[worst]} in {who}"
        found.append(Fact(name, value, ("good", "look", "bad")[worst], RUNBOOKS.get(name, "SourcesFailing")))
    return found


async def _invariants(ctx: Context) -> list[Fact]:
    found = []
    for row in await ctx.fetch(RESULTS):
        sentence = INVARIANTS[row["name"]].sentence if row["name"] in INVARIANTS else row["name"]
        value = f"{row['violations']} broken" if row["violations"] else "holds"
        when = f"{value}, checked {row['checked_at']:%-d %b %H:%M} UTC"
        found.append(Fact(sentence, when, "bad" if row["violations"] else "good", "InvariantBroken"))
    return found


async def _verification(ctx: Context) -> Verification:
    asked, last = await audit.asked_at(ctx), await audit.last_check(ctx)
    return Verification(asked if asked and (last is None or asked > last.checked_at) else None, last)
