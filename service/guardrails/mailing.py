"""Every mail is recorded before it is sent, and no mail goes where mail must not go.

Protects from: the mail that is sent again because the answer to the first try was lost; the sender who goes on writing
to addresses that bounce or complain, until nobody takes his mail any more; the provider's outage that nobody notices.
How to use: nothing; service.web.mail asks `claim` before each try and says what came of it with `settle`. Events of the
provider end in `settle` and `suppress`.

Each statement commits by itself, because the job around it is rolled back when it fails. Limits: after a lost answer
the next try waits DOUBT_SECONDS for news of the first; a provider that took the mail and says nothing for so long, or
one that tells nothing (SMTP), gets it twice. A mail too many is better than one too few.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias
from uuid import UUID, uuid4
from weakref import WeakKeyDictionary

import asyncpg
from sqlalchemy import Index, Integer, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock, telemetry
from service.core.context import Context, Resources
from service.core.database import LOST, Base
from service.core.errors import Unavailable
from service.core.ids import new_id
from service.guardrails.erasure import DOMAIN
from service.guardrails.inbox import AcknowledgingPool
from service.guardrails.personal_data import Erasure, internal, personal
from service.guardrails.rate_limits import folded
from service.guardrails.retention import days_after
from service.guardrails.subjects import By, Subject, address_hash

DOUBT_SECONDS = 120
LATE = timedelta(minutes=1)
FRESH_SECONDS = 10.0
NOT_AGAIN = "an address that bounced, complained or left is not written to again (GDPR Art. 21(3), 6(1)(f))"
AWAY: tuple[type[Exception], ...] = (*LOST, Unavailable)


class Reach(StrEnum):
    """How much a person must get a mail, which decides what may hold it back."""

    ASKED = "asked"
    """They wait for it at this moment (a reset): nothing holds it back, they may have mended their mailbox."""
    MUST = "must"
    """They must know (a changed password, a failed payment): held back where mail bounces or was called spam."""
    NOTICE = "notice"
    """News: held back also where it was unsubscribed from."""


class Cause(StrEnum):
    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    UNSUBSCRIBED = "unsubscribed"


HOLDS_BACK = {
    Reach.ASKED: frozenset[Cause](),
    Reach.MUST: frozenset({Cause.BOUNCE, Cause.COMPLAINT}),
    Reach.NOTICE: frozenset(Cause),
}


class MailState(StrEnum):
    TRYING = "trying"
    """Under way, or nobody knows: a worker died, or the answer was lost."""
    WAITING = "waiting"
    """Certainly not sent yet."""
    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    DROPPED = "dropped"
    REFUSED = "refused"
    SUPPRESSED = "suppressed"


class SentMail(Base):
    """One row per mail, whatever became of it; no address and no word of it."""

    __tablename__ = "sent_mails"
    __retention__ = days_after("first_tried_at", days=60, reason="answers 'did you send me that?' for two months")
    __table_args__ = (
        Index("ix_sent_mails_late", "first_tried_at", postgresql_where=text("state IN ('trying', 'waiting')")),
        Index("ix_sent_mails_accepted_at", "accepted_at", postgresql_where=text("accepted_at IS NOT NULL")),
        Index("ix_sent_mails_first_tried_at", "first_tried_at"),
        Index("ix_sent_mails_address_hash", "address_hash"),
    )

    __subject__ = Subject("address_hash", By.ADDRESS_HASH, since="first_tried_at")

    reference: Mapped[str] = mapped_column(String(255), primary_key=True, info=internal())
    template: Mapped[str] = mapped_column(String(80), info=internal())
    address_hash: Mapped[bytes] = mapped_column(info=internal("pseudonym"))
    state: Mapped[MailState] = mapped_column(String(16), info=internal())
    attempts: Mapped[int] = mapped_column(Integer, info=internal())
    first_tried_at: Mapped[datetime] = mapped_column(info=internal())
    tried_at: Mapped[datetime] = mapped_column(info=internal())
    accepted_at: Mapped[datetime | None] = mapped_column(info=internal())


class MailSuppression(Base):
    """Where mail must not go, and why. The hash finds it; the address is what the provider must be told to lift it."""

    __tablename__ = "mail_suppressions"
    __retention__ = days_after(
        "seen_at", days=730, reason="who complained or left is not written to again because some months passed"
    )
    __table_args__ = (
        UniqueConstraint("address_hash", "cause"),
        Index("ix_mail_suppressions_seen_at", "seen_at"),
        Index("ix_mail_suppressions_newest", "id", postgresql_where=text("lifted_at IS NULL")),
    )

    __subject__ = Subject("address_hash", By.ADDRESS_HASH, since="seen_at")

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    address_hash: Mapped[bytes] = mapped_column(
        info=internal("pseudonym", purpose="objection", erasure=Erasure.KEEP, because=NOT_AGAIN)
    )
    email: Mapped[str] = mapped_column(
        String(254), info=personal("contact.email", purpose="objection", erasure=Erasure.PSEUDONYMIZE)
    )
    cause: Mapped[Cause] = mapped_column(String(16), info=internal())
    code: Mapped[str] = mapped_column(String(32), info=internal())
    """The status that the receiving server gave (RFC 3463), never its words."""
    seen_at: Mapped[datetime] = mapped_column(info=internal())
    lifted_at: Mapped[datetime | None] = mapped_column(info=internal())
    """What was seen before this counts no more."""


CLAIM = """
    INSERT INTO sent_mails AS known (reference, template, address_hash, state, attempts, first_tried_at, tried_at)
    VALUES ($1, $2, $3, 'trying', 1, $4, $4)
    ON CONFLICT (reference) DO UPDATE SET state = 'trying', attempts = known.attempts + 1, tried_at = $4
        WHERE known.state = 'waiting' OR (known.state = 'trying' AND known.tried_at <= $5)
    RETURNING true
"""
KNOWN = "SELECT state FROM sent_mails WHERE reference = $1"
OURS = """
    SELECT EXISTS (SELECT FROM sent_mails WHERE address_hash = $1) OR EXISTS (SELECT FROM users WHERE email = $2)
"""
SETTLE = """
    UPDATE sent_mails SET state = $2::text,
        accepted_at = CASE WHEN $2::text IN ('sent', 'delivered') THEN coalesce(accepted_at, $3) ELSE accepted_at END
    WHERE reference = $1 AND state = ANY($4)
"""
CAUSES = "SELECT cause FROM mail_suppressions WHERE address_hash = $1 AND lifted_at IS NULL"
SUPPRESS = """
    INSERT INTO mail_suppressions AS known (id, address_hash, email, cause, code, seen_at)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (address_hash, cause) DO UPDATE SET lifted_at = NULL, code = excluded.code, seen_at = excluded.seen_at
        WHERE excluded.seen_at > coalesce(known.lifted_at, known.seen_at)
    RETURNING true
"""
# One mail that waits may be its receiver's doing; nothing taken since it was first tried is the provider's.
LATENESS = """
    SELECT count(*) AS waiting, min(first_tried_at) AS since,
        (SELECT accepted_at FROM sent_mails WHERE accepted_at IS NOT NULL ORDER BY accepted_at DESC LIMIT 1) AS accepted
    FROM sent_mails WHERE state IN ('trying', 'waiting') AND tried_at > $1
"""
FOLLOWS = {
    MailState.WAITING: ("trying",),
    MailState.SENT: ("trying", "waiting"),
    MailState.REFUSED: ("trying",),
    MailState.SUPPRESSED: ("trying",),
    MailState.DELIVERED: ("trying", "waiting", "sent"),
    MailState.BOUNCED: ("trying", "waiting", "sent", "delivered"),
    MailState.DROPPED: ("trying", "waiting", "sent"),
}
"""What each may come after: events arrive late, twice and in any order, and a job's word may come after them."""


Connection: TypeAlias = "asyncpg.Connection[Any]"


class InDoubt(Exception):
    """An earlier try may have succeeded, and the provider may still say so."""


@dataclass(frozen=True, slots=True)
class Lateness:
    """How many mails wait, and since when nothing at all has been taken (None: it goes well)."""

    waiting: int
    since: datetime | None


async def claim(raw: Connection, reference: str, template: str, address: str, *, tells_later: bool) -> bool:
    """Whether to send it now; False when that is done. Raises InDoubt while it is not known."""
    now = clock.now()
    patience = timedelta(seconds=DOUBT_SECONDS if tells_later else 0)
    if await raw.fetchval(CLAIM, reference, template, hash_of(address), now, now - patience):
        return True
    if await raw.fetchval(KNOWN, reference) == MailState.TRYING:
        raise InDoubt
    return False


async def settle(raw: Connection, reference: str, state: MailState) -> None:
    """What became of it, if that can follow what is known."""
    await raw.execute(SETTLE, reference, state, clock.now(), list(FOLLOWS[state]))


async def causes(raw: Connection, address: str) -> frozenset[Cause]:
    """Why mail does not go to this address; empty when it does."""
    return frozenset(Cause(row["cause"]) for row in await raw.fetch(CAUSES, hash_of(address)))


async def suppress(raw: Connection, address: str, cause: Cause, code: str, seen_at: datetime) -> bool:
    """Hold mail back from now on; False when that was so already, or was lifted after it was seen.

    Of somebody we do not know the hash alone is kept: another sender at the same provider wrote to them, or they have
    been erased and their last mail comes back only now.
    """
    hashed, email = hash_of(address), folded(address)
    shown = email if await raw.fetchval(OURS, hashed, email) else f"{uuid4().hex}@{DOMAIN}"
    values = (new_id(), hashed, shown, cause, code[:32], seen_at)
    return bool(await raw.fetchval(SUPPRESS, *values))


def hash_of(address: str) -> bytes:
    return address_hash(address)


async def lateness(resources: Resources) -> Lateness:
    """The provider's state, from what happened to our mails in the last hours; a mail given up on waits no more."""
    now = clock.now()
    async with resources.get(AcknowledgingPool).connection() as raw:
        [row] = await raw.fetch(LATENESS, now - timedelta(hours=2))
    since: datetime | None = row["since"]
    late = since is not None and since < now - LATE and (row["accepted"] is None or row["accepted"] < since)
    return Lateness(row["waiting"], since if late else None)


_known: WeakKeyDictionary[Resources, tuple[float, Lateness]] = WeakKeyDictionary()


async def late_since(ctx: Context) -> datetime | None:
    """For the banner: since when mail has been late, believed for FRESH_SECONDS; what cannot be read is no banner."""
    read_at, found = _known.get(ctx.resources, (0.0, Lateness(0, None)))
    if time.monotonic() - read_at > FRESH_SECONDS:
        # Before asking: while it is slow or away, one page waits for it and not each.
        _known[ctx.resources] = time.monotonic(), found
        try:
            found = await lateness(ctx.resources)
        except AWAY:
            found = Lateness(0, None)
        _known[ctx.resources] = time.monotonic(), found
    return found.since


async def measure(resources: Resources) -> None:
    found = await lateness(resources)
    telemetry.mail_waiting.set(found.waiting)
    telemetry.mail_late.set((clock.now() - found.since).total_seconds() if found.since else 0)
