"""What people may say yes or no to: consent (GDPR Art. 6, 7), objection (Art. 21), restriction (Art. 18).

Protects from: the newsletter to somebody who never asked for it, or who took their word back yesterday; figures made
from the data of somebody who objected. How to use, once, in a feature's models.py:

    NEWS = purpose("product_news", "News about the product", TEXT, basis=Basis.CONSENT, version=1)

a mail: `letter(template, reach, NEWS)`, and `deliver(..., user_id)` asks before each try; any other job says
`@serves(NEWS)` below its decorator and asks `await permitted(raw, NEWS, people)`. A job that can read people's data
and serves none turns tests/architecture/test_job_reads.py red until a reviewed list says why. Another text is another
version, and whoever agreed to the former one is asked again: until then the answer is no.

Whoever restricts has their data kept, too: retention leaves them alone meanwhile (guardrails.purge).

Limits: what runs when somebody takes a yes back is finished; everything after it stops. What the contract or a law
needs (a changed password, an unpaid invoice) asks nobody: that is what restriction leaves standing, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
from sqlalchemy import ForeignKey, Index, Select, String, or_, select, text
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.database import Base
from service.core.ids import new_id
from service.core.logging import get_logger
from service.guardrails.personal_data import CATEGORIES, internal, personal, pointer
from service.guardrails.retention import with_parent

EVERYTHING = "*"
"""The purpose of a limit that stops every purpose: restriction of processing."""
F = TypeVar("F", bound=Callable[..., Awaitable[None]])
Connection: TypeAlias = "asyncpg.Connection[Any]"
log = get_logger()


class Basis(StrEnum):
    CONSENT = "consent"
    """Off until the person says yes (Art. 6(1)(a))."""
    INTEREST = "legitimate interest"
    """On until the person objects (Art. 6(1)(f))."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """Something we do with personal data that the product would work without; `text` is what people agree to."""

    name: str
    title: str
    text: str
    basis: Basis
    version: int = 1
    uses: tuple[str, ...] = ("subject",)
    """Categories of personal data (guardrails.personal_data): the record of processing and the notice say so."""
    through: tuple[str, ...] = ()
    """Processors (guardrails.data_map) that are given some of it."""


PURPOSES: dict[str, Purpose] = {}
SERVED: dict[str, list[str]] = {}
"""Purpose -> the jobs and mails that serve it; filled by `serves` and by service.web.mail."""


def purpose(
    name: str,
    title: str,
    text: str,
    *,
    basis: Basis,
    version: int = 1,
    uses: tuple[str, ...] = ("subject",),
    through: tuple[str, ...] = (),
) -> Purpose:
    """Declare one. Changing `text` without raising `version` turns a test red: people agreed to the words they saw."""
    if name in PURPOSES or len(name) > 40 or name == EVERYTHING:
        raise ValueError(f"{name!r} is too long, or two purposes are called that")
    if strange := set(uses) - set(CATEGORIES):
        raise ValueError(f"{strange} are not in CATEGORIES")
    PURPOSES[name] = Purpose(name, title, text, basis, version, uses, through)
    return PURPOSES[name]


def serves(aim: Purpose) -> Callable[[F], F]:
    """Mark a job that works for this purpose; an architecture test sees that it asks `permitted`."""

    def mark(body: F) -> F:
        SERVED.setdefault(aim.name, []).append(f"{body.__module__}.{body.__name__}")
        return body

    return mark


class Consent(Base):
    """One line for each yes and each no, never changed: who agreed to which words, when, and where they said so."""

    __tablename__ = "consents"
    __retention__ = with_parent(
        "users", reason="proves what was agreed to (Art. 7(1)) for as long as it is made use of"
    )
    __table_args__ = (Index("ix_consents_newest", "user_id", "purpose", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), info=internal("subject"))
    purpose: Mapped[str] = mapped_column(String(40), info=internal())
    version: Mapped[int] = mapped_column(info=internal())
    given: Mapped[bool] = mapped_column(info=internal())
    source: Mapped[str] = mapped_column(String(16), info=internal())
    at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())


class ProcessingLimit(Base):
    """What must not be done with a person's data: a purpose they objected to, or EVERYTHING while restricted."""

    __tablename__ = "processing_limits"
    __retention__ = with_parent("users", reason="holds until it is lifted, or the person's data are gone")
    __table_args__ = (
        Index(
            "uq_processing_limits_open", "user_id", "purpose", unique=True, postgresql_where=text("lifts_at IS NULL")
        ),
        Index("ix_processing_limits_user_id", "user_id", "purpose"),
        Index("ix_processing_limits_placed", "purpose", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), info=internal("subject"))
    purpose: Mapped[str] = mapped_column(String(40), info=internal())
    reason: Mapped[str] = mapped_column(String(300), default="", info=personal("message"))
    placed_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    placed_by: Mapped[UUID | None] = mapped_column(info=pointer())
    lifting_asked_at: Mapped[datetime | None] = mapped_column(info=internal())
    """When staff decided to lift it: it holds on until the person has been told (Art. 18(3)) and had time to answer."""
    lifts_at: Mapped[datetime | None] = mapped_column(info=internal())


# A limit on the purpose, or on everything; then, where a yes is needed ($2), the newest word about this very version.
MAY = f"""
    NOT EXISTS (
        SELECT FROM processing_limits WHERE user_id = person AND purpose = ANY(ARRAY['{EVERYTHING}', $1::text])
            AND coalesce(lifts_at > $3, true)
    ) AND ($2::int IS NULL OR coalesce((
        SELECT given AND version = $2 FROM consents WHERE user_id = person AND purpose = $1 ORDER BY id DESC LIMIT 1
    ), false))
"""  # noqa: S608 - our own constant
PERMITTED = f"SELECT person FROM unnest($4::uuid[]) AS person WHERE {MAY}"  # noqa: S608 - our own constants


async def permitted(raw: Connection, aim: Purpose | None, people: Sequence[UUID]) -> set[UUID]:
    """Whose data may be used for this now; the others are left out, and the log says how many.

    Without a purpose: all whose data are not restricted.
    """
    rows = await raw.fetch(PERMITTED, *_asked(aim), list(people))
    found = {row["person"] for row in rows}
    if left_out := len(set(people) - found):
        log.info("processing left out", purpose=_asked(aim)[0], people=left_out)
    return found


async def count_permitted(raw: Connection, aim: Purpose, people: str, *values: object) -> int:
    """How many of whom a statement finds (its column is `person`, its values begin with $4): all of them are counted
    where they are, since nobody knows how many they will be."""
    counted = f"SELECT count(*) FROM ({people}) AS found WHERE {MAY}"  # noqa: S608 - from our own code
    found: int = await raw.fetchval(counted, *_asked(aim), *values)
    return found


def _asked(aim: Purpose | None) -> tuple[str, int | None, datetime]:
    version = aim.version if aim is not None and aim.basis is Basis.CONSENT else None
    return aim.name if aim is not None else EVERYTHING, version, clock.now()


def restricted() -> Select[Any]:
    """Whose data must rest now."""
    lasts = or_(ProcessingLimit.lifts_at.is_(None), ProcessingLimit.lifts_at > clock.now())
    return select(ProcessingLimit.user_id).where(ProcessingLimit.purpose == EVERYTHING, lasts)


def said(user_id: UUID, aim: Purpose, *, given: bool, source: str) -> Consent:
    """The line to add; the version is the one whose words the person has just seen."""
    return Consent(user_id=user_id, purpose=aim.name, version=aim.version, given=given, source=source)


async def permits(raw: Connection, aim: Purpose | None, person: UUID) -> bool:
    return person in await permitted(raw, aim, [person])
