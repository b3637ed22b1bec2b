"""When each periodic job last ended well: the queue forgets a job that is done."""

from __future__ import annotations

from datetime import datetime, timedelta

from croniter import croniter  # type: ignore[import-untyped]
from sqlalchemy.orm import Mapped, mapped_column

from service.core.database import Base
from service.guardrails.personal_data import internal
from service.guardrails.retention import forever

RAN = """
    INSERT INTO periodic_runs (name, ran_at, milliseconds) VALUES ($1, now(), $2)
    ON CONFLICT (name) DO UPDATE SET ran_at = excluded.ran_at, milliseconds = excluded.milliseconds
"""


class PeriodicRun(Base):
    """One row per periodic job, written in the transaction of its last run."""

    __tablename__ = "periodic_runs"
    __retention__ = forever("one row per periodic job, overwritten")

    name: Mapped[str] = mapped_column(primary_key=True, info=internal())
    ran_at: Mapped[datetime] = mapped_column(info=internal())
    milliseconds: Mapped[int] = mapped_column(info=internal())


def is_late(schedule: str, ran_at: datetime, now: datetime) -> bool:
    """Whether a run was left out: it may be late by one turn, because a job waits for a free worker."""
    turns = croniter(schedule, now)
    turns.get_prev(datetime)
    before: datetime = turns.get_prev(datetime)
    return ran_at < before - timedelta(minutes=1)
