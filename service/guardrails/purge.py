"""What has outlived its retention is really deleted, children before parents, a bounded batch per transaction.

Protects from: bins that are never emptied, and the one DELETE of a million rows that holds locks until it times out.
How to use: nothing to do; which rows go follows from `guardrails.retention`, and a job comes by every ten minutes. It
runs as the role `ballast_maintenance`, the only one that may delete what people could restore.

Limits: a `LegalHold` on an organization or a person stops the purge of their rows, not their being hidden; so does a
person's wish that their data rest: they are kept for them meanwhile (GDPR Art. 18). Rows that cascade in the database
(`ondelete="CASCADE"`) are not counted. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Index,
    Table,
    Uuid,
    and_,
    delete,
    false,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    text,
    tuple_,
    union,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.database import Base, Database, UnitOfWork
from service.core.errors import Conflict
from service.core.ids import new_id
from service.core.logging import get_logger
from service.core.settings import Profile
from service.guardrails import audit, purposes
from service.guardrails.former_addresses import given_up
from service.guardrails.jobs import periodic
from service.guardrails.personal_data import Erasure, internal, personal, pointer
from service.guardrails.retention import DELETED_AT, ORGANIZATIONS, Retention, days_after, parts_of, retention_of
from service.guardrails.subjects import By, Person, Subject, condition_for_any, personal_tables, subject_of

BATCH = 1_000
SECONDS = 20.0
GRACE = timedelta(hours=1)
"""Later than the last moment of a restore by more than clocks differ: a purge never races with one."""
HOLDABLE = ("id", "organization_id", "user_id")
_position: ColumnElement[Any] = literal_column("ctid")

log = get_logger()


class LegalHold(Base):
    """A reason why the rows of an organization or a person must not be destroyed (a lawsuit, an audit)."""

    __tablename__ = "legal_holds"
    __retention__ = days_after("lifted_at", days=1095, reason="shows for three years why something was kept longer")
    __table_args__ = (
        Index("ix_legal_holds_lifted_at", "lifted_at", postgresql_where=text("lifted_at IS NOT NULL")),
        Index("ix_legal_holds_open", "subject_id", unique=True, postgresql_where=text("lifted_at IS NULL")),
    )
    __subject__ = Subject("subject_id")

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    # An organization's or a person's id; no foreign key, because the hold must outlive what it held.
    subject_id: Mapped[UUID] = mapped_column(index=True, info=pointer())
    # Words about somebody, who may not see them while they are what a claim is fought with.
    reason: Mapped[str | None] = mapped_column(
        info=personal(
            "message",
            purpose="security",
            erasure=Erasure.NULL,
            withheld="what a legal claim is prepared with (GDPR Art. 23(1)(j))",
        )
    )
    placed_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    placed_by: Mapped[UUID | None] = mapped_column(info=pointer())
    lifted_at: Mapped[datetime | None] = mapped_column(default=None, info=internal())


@dataclass(frozen=True, slots=True)
class Held:
    """Whom legal holds name; and those of them that are people, whose rows are found in more ways than by an id."""

    ids: list[UUID]
    people: list[Person]


@dataclass(slots=True)
class Run:
    """One round: what it has removed, and when it has to stop. The job's own transaction is open all the while, and
    the audit log is only sealed up to the oldest open one; so a round is short, and the next goes on."""

    maintenance: Database
    resources: Resources
    batch: int
    until: float
    removed: Counter[str] = field(default_factory=Counter)


class _OutOfTime(Exception):
    pass


@periodic("*/10 * * * *", timeout=timedelta(minutes=2))
async def remove_expired(ctx: Context) -> None:
    await purge_expired(ctx.resources)


async def purge_expired(
    resources: Resources, *, base: type[Base] = Base, batch: int = BATCH, seconds: float = SECONDS
) -> Counter[str]:
    """Remove rows past their retention for at most so many seconds; say how many went from which table.

    One table's failure does not spare the others; it is raised at the end, in an ExceptionGroup.
    """
    if resources.maintenance is None:
        raise RuntimeError("a purge needs the maintenance role (DATABASE_MAINTENANCE_URL): run it in the worker")
    run = Run(resources.maintenance, resources, batch, time.monotonic() + seconds)
    failures: list[Exception] = []
    held = await _held(run)
    try:
        for table in reversed(base.metadata.sorted_tables):
            rule = retention_of(table)
            if rule is None or rule.days is None or rule.removed_by:
                continue
            try:
                await _remove(
                    run,
                    table,
                    _expired(table, rule, resources.settings.compliance_profile, held),
                    told=rule.after == DELETED_AT,
                )
            except DBAPIError as error:
                log.error("purge failed", table=table.name, error=str(error.orig))
                failures.append(error)
    except _OutOfTime:
        log.info("purge goes on in the next round")
    log.info("purged", rows=dict(run.removed))
    if failures:
        raise ExceptionGroup("some tables could not be purged", failures)
    return run.removed


def _expired(table: Table, rule: Retention, profile: Profile, held: Held) -> ColumnElement[bool]:
    before = clock.now() - timedelta(days=rule.days_under(profile)) - GRACE
    # A hold names people and organizations; a table whose own rows are numbered cannot be meant by its id.
    subjects = [
        column
        for name in HOLDABLE
        if held.ids and (column := table.c.get(name)) is not None and isinstance(column.type, Uuid)
    ]
    spared = [or_(column.is_(None), column.not_in(held.ids)) for column in subjects]
    if held.people and table in personal_tables(table.metadata) and not _only_mentions(table):
        spared.append(not_(func.coalesce(condition_for_any(held.people, table), false())))
    return and_(table.c[rule.after] < before, *spared)


def _only_mentions(table: Table) -> bool:
    """Sealed copies of messages, which say to no query whom they name: a hold on a person cannot keep them."""
    subject = subject_of(table)
    return subject is not None and subject.by is By.MENTION


async def _remove(run: Run, table: Table, where: ColumnElement[bool], *, told: bool = False) -> None:
    """Delete the rows `where` finds and all that is part of them. `told`: the audit trail says so, per organization."""
    for part, key in parts_of(table):
        parents = select(*(element.column for element in key.elements)).where(where).correlate(None)
        await _remove(run, part, tuple_(*key.columns).in_(parents))
    some = select(_position).select_from(table).where(where).limit(run.batch).correlate(None).scalar_subquery()
    owner = table.c.get("organization_id", table.c.id if table.name == ORGANIZATIONS else null())
    statement = delete(table).where(_position == func.any(func.array(some))).returning(owner)
    while True:
        async with run.maintenance.unit_of_work() as work:
            gone = (await work.session.execute(statement)).scalars().all()
            for organization_id, count in Counter(gone).items() if told else ():
                await _tell(Context(work, run.resources, SYSTEM, Caller("purge")), organization_id, table, count)
        if gone:
            run.removed[table.name] += len(gone)
        if len(gone) < run.batch:
            return
        if time.monotonic() > run.until:
            raise _OutOfTime


async def lock_for_hold(work: UnitOfWork, subject: UUID) -> None:
    """Whoever places a hold waits for what is being destroyed at this moment, so that "held" is true from then on."""
    await work.raw.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"legal hold {subject}")


async def refuse_while_held(work: UnitOfWork, subject: UUID) -> None:
    """Raises Conflict: a lawsuit keeps what somebody wants gone (GDPR Art. 17(3)(e)). Nobody places a hold before this
    transaction ends: ask in the one that destroys."""
    await work.raw.execute("SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))", f"legal hold {subject}")
    held = select(LegalHold.id).where(LegalHold.subject_id == subject, LegalHold.lifted_at.is_(None)).limit(1)
    if (await work.session.execute(held)).first() is not None:
        raise Conflict("A legal hold keeps these data (GDPR Art. 17(3)(e)).", mend="It goes on when the hold ends.")


async def _tell(ctx: Context, organization_id: UUID | None, table: Table, count: int) -> None:
    await ctx.work.act_for(tenant=organization_id, user=None)
    await audit.record(ctx, "retention.purge", audit.Changes(object_type=table.name), {"rows": count})


async def _held(run: Run) -> Held:
    async with run.maintenance.unit_of_work(read_only=True) as work:
        held = select(LegalHold.subject_id).where(LegalHold.lifted_at.is_(None))
        ids = list(await work.session.scalars(union(held, purposes.restricted())))
        people = await work.raw.fetch("SELECT id, email FROM users WHERE id = ANY($1)", ids) if ids else []
        former = await given_up(work, [row["id"] for row in people])
        return Held(ids, [Person(row["id"], (row["email"], *former.get(row["id"], {}))) for row in people])
