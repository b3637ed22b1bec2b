"""Sentences that must always be true of the data, checked every quarter of an hour against the whole database.

Protects from: the bug that corrupts quietly for weeks. How to use, in a feature's jobs.py:

    @invariant("organizations_have_an_owner", "Every organization that is not deleted has an owner.")
    async def ownerless(ctx: Context) -> Sequence[object]: ...     # the ids that break it, at most 20

Runs as the maintenance role; a violation is an error in the log and `invariant_violations{name}` above 0, which pages
(ops/runbooks/InvariantBroken.md). A check that cannot run counts as one violation: not knowing is not the same as fine.

Limits: it tells, it does not mend. Each check has 30 s; one that needs more belongs into a constraint.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg
from prometheus_client import Gauge
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapped, mapped_column

from service.core import telemetry
from service.core.context import Context, Resources
from service.core.database import Base
from service.core.logging import get_logger
from service.guardrails import audit
from service.guardrails.jobs import Retry, periodic
from service.guardrails.personal_data import internal
from service.guardrails.retention import forever

log = get_logger()
violations = Gauge("invariant_violations", "Rows that break the sentence", ("name",), registry=telemetry.REGISTRY)
MOST = 20
MOST_SEAL_LAG_SECONDS = 60
STORE = """
    INSERT INTO invariant_results (name, violations, checked_at) VALUES ($1, $2, now())
    ON CONFLICT (name) DO UPDATE SET violations = excluded.violations, checked_at = excluded.checked_at
"""
# Keys that carry the organization themselves cannot point abroad: PostgreSQL sees to it. The others are looked at.
LOOSE_KEYS = """
    SELECT format(
        'SELECT child.organization_id FROM %s AS child JOIN %s AS parent ON child.%I = parent.%I '
        'WHERE child.organization_id <> parent.organization_id LIMIT 20',
        conrelid::regclass, confrelid::regclass, mine.attname, theirs.attname) AS query
    FROM pg_constraint
    JOIN pg_attribute AS mine ON mine.attrelid = conrelid AND mine.attnum = conkey[1]
    JOIN pg_attribute AS theirs ON theirs.attrelid = confrelid AND theirs.attnum = confkey[1]
    WHERE contype = 'f' AND cardinality(conkey) = 1
      AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = conrelid AND attname = 'organization_id')
      AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = confrelid AND attname = 'organization_id')
"""
STUCK_JOBS = """
    SELECT id FROM pgqueuer WHERE status IN ('queued', 'picked') AND execute_after < now() - interval '1 day' LIMIT 20
"""

Check = Callable[[Context], Awaitable[Sequence[object]]]


class InvariantResult(Base):
    """What the worker found last; read by /metrics of the web process."""

    __tablename__ = "invariant_results"
    __retention__ = forever("one row per invariant, overwritten")

    name: Mapped[str] = mapped_column(primary_key=True, info=internal())
    violations: Mapped[int] = mapped_column(info=internal())
    checked_at: Mapped[datetime] = mapped_column(info=internal())


@dataclass(frozen=True, slots=True)
class Invariant:
    name: str
    sentence: str
    check: Check


INVARIANTS: dict[str, Invariant] = {}


def invariant(name: str, sentence: str) -> Callable[[Check], Check]:
    """Register a check: an async function that returns what breaks the sentence, at most 20 ids."""

    def decorate(check: Check) -> Check:
        if name in INVARIANTS:
            raise ValueError(f"two invariants are called {name!r}")
        INVARIANTS[name] = Invariant(name, sentence, check)
        return check

    return decorate


@periodic("*/15 * * * *", retry=Retry(attempts=2), timeout=timedelta(minutes=5))
async def check_invariants(ctx: Context) -> None:
    await examine(ctx)


async def examine(ctx: Context) -> dict[str, list[object]]:
    """Check every sentence, store and log what breaks it, and return that by the sentence's name.

    One that cannot be checked does not keep the others from it.
    """
    answers: dict[str, list[object]] = {}
    for found in INVARIANTS.values():
        # A failed statement must not end the whole round, and a check has nothing to change.
        await ctx.work.raw.execute("SAVEPOINT before_check; SET LOCAL statement_timeout = '30s'")
        try:
            broken = list(await found.check(ctx))
        except (asyncpg.PostgresError, SQLAlchemyError, LookupError, TypeError, ValueError) as error:
            broken = [f"not checked: {type(error).__name__}"]
        await ctx.work.raw.execute("ROLLBACK TO before_check")
        if broken:
            log.error("invariant broken", invariant=found.name, sentence=found.sentence, examples=broken[:MOST])
        await ctx.work.raw.execute(STORE, found.name, len(broken))
        answers[found.name] = broken
    return answers


async def measure(resources: Resources) -> None:
    """Set the gauge of every invariant from the last results; called when /metrics is read."""
    async with resources.database.unit_of_work(read_only=True) as work:
        for row in await work.raw.fetch("SELECT name, violations FROM invariant_results"):
            violations.labels(row["name"]).set(row["violations"])


@invariant("parents_of_the_same_tenant", "No row belongs to one organization and its parent to another.")
async def foreign_parents(ctx: Context) -> Sequence[object]:
    raw = ctx.work.raw
    return [f"{row[0]}" for key in await raw.fetch(LOOSE_KEYS) for row in await raw.fetch(key["query"])][:MOST]


@invariant("audit_is_sealed", f"Every audit row is sealed within {MOST_SEAL_LAG_SECONDS} seconds.")
async def late_seals(ctx: Context) -> Sequence[object]:
    lag = await audit.seal_lag(ctx.work.raw)
    return [f"{lag:.0f} seconds behind"] if lag > MOST_SEAL_LAG_SECONDS else []


@invariant("jobs_move", "No job has been due for more than a day.")
async def stuck_jobs(ctx: Context) -> Sequence[Any]:
    return [row["id"] for row in await ctx.work.raw.fetch(STUCK_JOBS)]
