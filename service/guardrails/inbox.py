"""Messages from outside, saved once and before anything is done about them.

Protects from: the webhook that was answered with 200 and lost in the crash a moment later, the one that came twice and
was acted on twice, the one that nobody can look at afterwards. How to use: check the signature first (junk never makes
a row), then, on a pool of its own so that a busy service still acknowledges:

    STRIPE = Inbox("stripe", mark="UPDATE ... RETURNING some_generation AS gen")
    await STRIPE.receive(raw, message)       # True: new; False: known already. Either way the sender gets its 2xx

`mark` is what the message sets in motion: it runs in the same statement, so that both happen or neither, and only for
a message that is new. Its body goes the moment it is settled (processed or ignored), by a trigger of the table, so
that nobody's settling can forget it: an erased person's former address in "customer.updated" ends with that reading.

Limits: what was saved is answered at least once; whoever works on it must be idempotent. What waits or is dead keeps
its body for people and replay, BODY_DAYS at most; an erasure empties those that name its person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import asyncpg
import orjson
from sqlalchemy import BigInteger, Identity, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.context import Context
from service.core.database import Base
from service.core.pools import DriverPool
from service.guardrails import cards
from service.guardrails.jobs import periodic
from service.guardrails.jobs.batches import in_batches
from service.guardrails.personal_data import Erasure, internal, personal
from service.guardrails.retention import days_after
from service.guardrails.sealed import key_index, seal, sealed, unseal
from service.guardrails.subjects import By, Subject

BODY_DAYS = 90
"""Of what nobody could settle. Bodies carry names and addresses; the rest answers "did it arrive?" without them."""

COPIES = "a copy of what another system sent, about others too (GDPR Art. 15(4)); its content is in other tables"


class State(StrEnum):
    PENDING = "pending"
    PROCESSED = "processed"
    IGNORED = "ignored"
    UNMATCHED = "unmatched"
    DEAD = "dead"


class InboxMessage(Base):
    __tablename__ = "inbox"
    __retention__ = days_after("received_at", days=400, reason="says for a year that a message came and what became")
    __table_args__ = (
        UniqueConstraint("source", "realm", "external_id"),
        Index("ix_inbox_source_subject_gen", "source", "subject", "gen"),
        Index("ix_inbox_due", "source", "next_attempt_at", postgresql_where=text("state IN ('pending', 'unmatched')")),
        Index("ix_inbox_state_id", "state", "id"),
        Index("ix_inbox_type_id", "type", "id"),
        Index("ix_inbox_body", "received_at", postgresql_where=text("body IS NOT NULL")),
        key_index("inbox", "body"),
    )

    __subject__ = Subject("body", By.MENTION)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True, info=internal())
    source: Mapped[str] = mapped_column(String(32), info=internal())
    realm: Mapped[str] = mapped_column(String(64), info=internal())
    """Account and mode at the sender: the same id in test and in live mode is not the same message."""
    external_id: Mapped[str] = mapped_column(String(255), info=internal())
    type: Mapped[str] = mapped_column(String(128), info=internal())
    subject: Mapped[str | None] = mapped_column(String(255), info=internal())
    """Whom it is about, in the sender's words; messages about one subject are worked on together."""
    facts: Mapped[dict[str, Any]] = mapped_column(info=internal())
    body: Mapped[bytes | None] = mapped_column(
        info=sealed(
            personal("message", erasure=Erasure.NULL, withheld=COPIES),
            by=("source", "realm", "external_id"),
            once_plain=True,
        )
    )
    """As it came, but for card numbers, until it is settled."""
    gen: Mapped[int | None] = mapped_column(BigInteger, info=internal())
    state: Mapped[State] = mapped_column(String(16), info=internal())
    reason: Mapped[str] = mapped_column(String(64), info=internal())
    attempts: Mapped[int] = mapped_column(Integer, info=internal())
    next_attempt_at: Mapped[datetime | None] = mapped_column(info=internal())
    last_error: Mapped[str | None] = mapped_column(Text, info=internal())
    received_at: Mapped[datetime] = mapped_column(index=True, info=internal())
    processed_at: Mapped[datetime | None] = mapped_column(info=internal())
    applied_version: Mapped[int | None] = mapped_column(BigInteger, info=internal())
    """Which version of the subject's state this message is part of; what it changed is found by it."""

    def open_body(self) -> bytes:
        """What came, for people who gave a reason; empty when it was forgotten."""
        return opened({name: getattr(self, name) for name in ("body", "source", "realm", "external_id")})


def opened(row: Mapping[str, Any]) -> bytes:
    """What came, for work on rows that were read without the model; empty when it was forgotten."""
    return (
        unseal(InboxMessage.body, row["body"], row["source"], row["realm"], row["external_id"]) if row["body"] else b""
    )


class AcknowledgingPool(DriverPool):
    """The connections that only save messages: whatever else is busy, the sender gets its answer."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as received; `state` is what it becomes when nothing is marked by it."""

    realm: str
    external_id: str
    type: str
    subject: str | None
    body: bytes
    state: State = State.UNMATCHED
    reason: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


class Inbox:
    """The messages of one source. `mark` is an UPDATE with $1 source, $2 realm, $3 external id, $4 subject.

    One statement, so one round trip and one transaction: the unique key has the last word when the same message
    arrives twice at the same instant, and takes the mark of the loser back with it.
    """

    def __init__(self, source: str, mark: str) -> None:
        self.source = source
        self.sql = f"""
            WITH known AS (
                SELECT FROM inbox WHERE source = $1 AND realm = $2 AND external_id = $3
            ), mark AS (
                {mark}
            )
            INSERT INTO inbox (source, realm, external_id, subject, type, facts, body, gen, state, reason, attempts,
                next_attempt_at, received_at)
            SELECT $1, $2, $3, $4, $5, $6::jsonb, $7, (SELECT gen FROM mark),
                CASE WHEN EXISTS (SELECT FROM mark) THEN 'pending' ELSE $8 END, $9, 0, $10, $10
            WHERE NOT EXISTS (SELECT FROM known)
            RETURNING id
        """  # noqa: S608 - our own constant

    async def receive(self, raw: asyncpg.Connection[Any], message: Message) -> bool:
        """Save it and set in motion what it is about; committed when this returns. False: it was known already."""
        message = _without_cards(message)
        arguments = (
            self.source, message.realm, message.external_id, message.subject, message.type,
            orjson.dumps(message.facts).decode(), _sealed(self.source, message), message.state, message.reason,
            clock.now(),
        )  # fmt: skip
        try:
            return bool(await raw.fetch(self.sql, *arguments))
        except asyncpg.UniqueViolationError:
            return False

    async def receive_all(self, raw: asyncpg.Connection[Any], messages: Sequence[Message]) -> int:
        """Save what came together, in one statement; how many were new. Nothing is marked by them."""
        kept = (_values(self.source, _without_cards(one)) for one in messages)
        columns = [list(column) for column in zip(*kept, strict=True)] or [[] for _ in range(8)]
        return len(await raw.fetch(SAVE_ALL, self.source, clock.now(), *columns))


SAVE_ALL = """
    INSERT INTO inbox (source, realm, external_id, subject, type, facts, body, state, reason, attempts,
        next_attempt_at, received_at)
    SELECT $1, realm, external_id, subject, type, facts::jsonb, body, state, reason, 0, $2, $2
    FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[], $9::text[], $10::text[])
        AS sent (realm, external_id, subject, type, facts, body, state, reason)
    ON CONFLICT (source, realm, external_id) DO NOTHING RETURNING id
"""


def _without_cards(one: Message) -> Message:
    """What is signed was believed as it came; what is kept of it is what anybody else could have sent."""
    return replace(
        one,
        realm=cards.mask(one.realm),
        external_id=cards.mask(one.external_id),
        type=cards.mask(one.type),
        subject=one.subject and cards.mask(one.subject),
        facts=orjson.loads(cards.without_cards(orjson.dumps(one.facts))),
        body=cards.without_cards(one.body),
    )


def _values(source: str, one: Message) -> tuple[object, ...]:
    facts, body = orjson.dumps(one.facts).decode(), _sealed(source, one)
    return one.realm, one.external_id, one.subject, one.type, facts, body, str(one.state), one.reason


def _sealed(source: str, one: Message) -> bytes:
    return seal(InboxMessage.body, one.body, source, one.realm, one.external_id)


FORGET = f"""
    UPDATE inbox SET body = NULL WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM inbox WHERE body IS NOT NULL
            AND (received_at < now() - interval '{BODY_DAYS} days' OR state IN ('processed', 'ignored'))
        ORDER BY received_at LIMIT $1 FOR UPDATE SKIP LOCKED
    ))
"""  # noqa: S608 - our own constant


@periodic("20 * * * *")
async def forget_bodies(ctx: Context) -> None:
    """Those of what was never settled; and what was settled before the table did it by itself."""
    await in_batches(ctx, FORGET)
