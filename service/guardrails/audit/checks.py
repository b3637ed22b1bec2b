"""The log is checked once a day by whoever works, and what was found is written down for its readers.

Protects from: a log that is sealed for years and verified by nobody until the day it matters. How to use: nothing to
do; a worker calls `check_when_due`, also soon after staff asked for it; the audit page says up to when all fits, the
invariant `audit_is_as_sealed` pages.
Limits: the worker's word about itself; an auditor takes a bundle (bundle.py) and the anchors.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import BigInteger, Index
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.context import Context
from service.core.database import Base, Database
from service.core.ids import new_id
from service.core.logging import get_logger
from service.core.settings import Settings
from service.guardrails.audit.verify import verify
from service.guardrails.personal_data import internal
from service.guardrails.retention import days_after

log = get_logger()
EVERY, GIVEN_UP = timedelta(days=1), timedelta(hours=3)
"""How often; and when a look that never ended (its worker died) is begun anew."""
LOCK = 7_205_761
ASK = "admin.verify_log"
"""The action with which staff want it at once; its row in the log is the mark, because web may not write here."""
ASKED = """
    SELECT at FROM audit_log WHERE organization_id IS NULL AND action = $1 AND outcome = 'done' ORDER BY id DESC LIMIT 1
"""
FAST = timedelta(minutes=1)
"""By how much a worker's clock may be ahead; a look of one further ahead must not stand for those still to come."""
CLAIM = """
    INSERT INTO audit_checks (id, checked_at) SELECT $1, $2 WHERE NOT EXISTS (
        SELECT FROM audit_checks WHERE checked_at < $5
            AND (problems IS NOT NULL AND checked_at > $3 OR problems IS NULL AND checked_at > $4)
    ) RETURNING true
"""
STORE = "UPDATE audit_checks SET sealed_until = $2, segments = $3, rows = $4, problems = $5 WHERE id = $1"
MOST = "SELECT coalesce(max(segments), 0) FROM audit_checks"
LAST = """
    SELECT checked_at, sealed_until, segments, rows, problems FROM audit_checks
    WHERE problems IS NOT NULL AND checked_at < $1 ORDER BY checked_at DESC LIMIT 1
"""


class AuditCheck(Base):
    """One look at the whole log: how far it was sealed, and how much did not fit."""

    __tablename__ = "audit_checks"
    __retention__ = days_after("checked_at", days=400, reason="shows an auditor that the log was looked at all year")
    __table_args__ = (Index("ix_audit_checks_checked_at", "checked_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, info=internal())
    checked_at: Mapped[datetime] = mapped_column(info=internal())
    sealed_until: Mapped[datetime | None] = mapped_column(info=internal())
    segments: Mapped[int | None] = mapped_column(BigInteger, info=internal())
    rows: Mapped[int | None] = mapped_column(BigInteger, info=internal())
    problems: Mapped[int | None] = mapped_column(BigInteger, info=internal())
    """None while somebody looks."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What the last look found. `sealed_until`: nothing older was changed, removed or slipped in."""

    checked_at: datetime
    sealed_until: datetime | None
    segments: int
    rows: int
    problems: int


async def check_when_due(maintenance: Database, settings: Settings) -> bool:
    """Verify everything if nobody has for a day, or since staff asked; write down what was found; whether it did.

    Claimed by a row, not by a lock: reading the whole log takes longer than a transaction may stay open.
    """
    identifier, now = new_id(), clock.now()
    async with maintenance.unit_of_work() as work:
        await work.raw.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        since = max(now - EVERY, await work.raw.fetchval(ASKED, ASK) or now - EVERY)
        if not await work.raw.fetchval(CLAIM, identifier, now, since, now - GIVEN_UP, now + FAST):
            return False
    report = await verify(maintenance, settings)
    # Waiting for a seal is no damage, and another invariant tells it.
    found = sum(count for kind, count in report.counts.items() if kind != "late")
    async with maintenance.unit_of_work() as work:
        if report.segments < await work.raw.fetchval(MOST):
            found += 1  # the seals of the end were cut off with it: what remains fits, and there was more
        await work.raw.execute(STORE, identifier, report.sealed_until, report.segments, report.rows, found)
    if found:
        log.error("audit log damaged", count=found)
    return True


async def asked_at(ctx: Context) -> datetime | None:
    """When staff last wanted it at once."""
    found: datetime | None = await ctx.work.raw.fetchval(ASKED, ASK)
    return found


async def last_check(ctx: Context) -> Checked | None:
    """None before the first look."""
    row = await ctx.work.raw.fetchrow(LAST, clock.now() + FAST)
    return Checked(**row) if row else None
