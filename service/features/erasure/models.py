"""A request to be erased, and what became of each step; neither says who it was once it is done.

    requested -> waiting -> executing -> done
              -> refused    withdrawn

`requested` is what staff entered for somebody who wrote: another member of staff checks who wrote. What a person asks
for with a fresh proof of identity begins at `waiting`: a day to think better of it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.database import Base
from service.core.ids import new_id
from service.guardrails.personal_data import Erasure, internal, personal, pointer
from service.guardrails.retention import days_after, with_parent
from service.guardrails.subjects import Subject
from service.guardrails.uploads.kept import keep

# Never swept: what no row knows any more is exactly what it is for.
keep("erasures", "(?!)", "SELECT unnest($1::text[]) AS key")
COOLING_OFF = timedelta(days=1)
LATE = timedelta(days=20)
"""The law gives a month (GDPR Art. 12(3)); what is not done by now is somebody's business today."""
KEPT_DAYS = 3 * 365
PROOF = "shows that and when a request was answered (GDPR Art. 5(2), 12(3)); names nobody once it is done"


class State(StrEnum):
    REQUESTED = "requested"
    WAITING = "waiting"
    EXECUTING = "executing"
    DONE = "done"
    WITHDRAWN = "withdrawn"
    REFUSED = "refused"


OPEN = (State.REQUESTED, State.WAITING, State.EXECUTING)


class Source(StrEnum):
    PERSON = "person"
    STAFF = "staff"
    DELETION = "deletion"
    """A deleted account whose time to come back is over."""
    RESTORE = "restore"
    """A backup brought back somebody who had been erased."""


def _kept(*arguments: Any, **options: Any) -> Any:
    return mapped_column(*arguments, info=internal(erasure=Erasure.KEEP, because=PROOF), **options)


def _said(**options: Any) -> Any:
    """What somebody wrote about the person."""
    return mapped_column(String(300), info=personal("message", purpose="erasure", erasure=Erasure.NULL), **options)


class ErasureRequest(Base):
    __tablename__ = "erasure_requests"
    __subject__ = Subject("user_id")
    __retention__ = days_after("finished_at", days=KEPT_DAYS, reason="claims about a request lapse after three years")
    __table_args__ = (
        Index("uq_erasure_requests_open", "user_id", unique=True, postgresql_where=text("finished_at IS NULL")),
        Index("ix_erasure_requests_user_id", "user_id", "id"),
        Index("ix_erasure_requests_due", "next_attempt_at", postgresql_where=text("finished_at IS NULL")),
        Index("ix_erasure_requests_finished_at", "finished_at"),
        CheckConstraint("(finished_at IS NULL) = (state IN ('requested', 'waiting', 'executing'))", "finished"),
        CheckConstraint("verified_by <> requested_by OR source <> 'staff'", "four_eyes"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=pointer())
    user_id: Mapped[UUID] = mapped_column(info=pointer())
    email: Mapped[str | None] = mapped_column(String(254), info=personal("contact.email", erasure=Erasure.NULL))
    """Needed until the last processor has been told; then nobody knows it any more."""
    state: Mapped[State] = _kept(String(16))
    source: Mapped[Source] = _kept(String(16))
    reason: Mapped[str | None] = _said(default="")
    """How they asked, as staff entered it, which may name them: gone as soon as the request has ended."""
    requested_at: Mapped[datetime] = _kept(default=clock.now)
    requested_by: Mapped[UUID | None] = mapped_column(info=pointer())
    verified_at: Mapped[datetime | None] = _kept()
    verified_by: Mapped[UUID | None] = mapped_column(info=pointer())
    due_at: Mapped[datetime | None] = _kept()
    began_at: Mapped[datetime | None] = _kept()
    finished_at: Mapped[datetime | None] = _kept()
    held: Mapped[str | None] = _said(default="", server_default="")
    """Why it does not go on: a legal hold, an organization without another owner, a processor that is away; or why it
    was refused, which is theirs to know (Art. 12(4)) until they are erased."""
    attempts: Mapped[int] = _kept(default=0, server_default="0")
    next_attempt_at: Mapped[datetime] = _kept(default=clock.now, server_default=text("now()"))
    leased_until: Mapped[datetime | None] = _kept()


class ErasureStep(Base):
    """One place that was dealt with: the evidence is numbers and ids of others, never a word of the person."""

    __tablename__ = "erasure_steps"
    __retention__ = with_parent("erasure_requests", reason="is the request's evidence")

    request_id: Mapped[UUID] = mapped_column(ForeignKey("erasure_requests.id"), primary_key=True, info=pointer())
    name: Mapped[str] = _kept(String(16), primary_key=True)
    done_at: Mapped[datetime] = _kept(default=clock.now)
    evidence: Mapped[dict[str, Any]] = _kept(JSONB)
