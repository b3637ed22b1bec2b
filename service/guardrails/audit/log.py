"""The table, the row and its hash: one INSERT per action, straight on the driver."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import groupby
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import BigInteger, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock, telemetry
from service.core.context import Actor, Context, SecurityEvent
from service.core.crypto import keyed_hash
from service.core.database import LOST, Base
from service.core.errors import Unavailable
from service.core.ids import new_id
from service.core.logging import get_logger
from service.core.settings import Profile, Settings
from service.guardrails.addresses import region_of
from service.guardrails.audit.changes import Changes, plain
from service.guardrails.audit.words import without_names, without_numbers
from service.guardrails.personal_data import Erasure, content, internal
from service.guardrails.retention import days_after, forever
from service.guardrails.subjects import Subject
from service.guardrails.tenancy import TenantScoped

log = get_logger()
CLUSTER = "(pg_control_system()).system_identifier"
MOST_BYTES = 16_000

KEPT = "who did what must be provable for a year (GDPR Art. 5(2), 17(3)(b) and (e); PCI DSS 10.5.1); then it goes"
DAYS, HIPAA_DAYS = 400, 2_200
"""A year and a month (PCI DSS 10.5.1); six years and a week (45 CFR 164.316(b)(2)(i)). The database itself lets nobody
delete a younger row than the first."""


def _kept(*arguments: Any, what: str = "operations", **options: Any) -> Any:
    """A column that erasing a person leaves alone until the row's time is over: it is under the row's hash."""
    info = internal(what, purpose="security", erasure=Erasure.KEEP, because=KEPT)
    return mapped_column(*arguments, info=info, **options)


class AuditRow(TenantScoped, Base):
    __tablename__ = "audit_log"
    __retention__ = days_after(
        "at", days=DAYS, hipaa_days=HIPAA_DAYS, reason="who did what can be shown for a year; its seal stays"
    )
    __table_args__ = (
        Index("ix_audit_log_at", "at"),
        Index(None, "organization_id", "id"),
        Index(None, "organization_id", "action", "id"),
        Index(None, "organization_id", "actor_id", "id"),
        Index(None, "actor_id", "id"),
        Index(None, "cluster", "txid", "id"),
        # For staff, who look at what was done to one person, wherever that was.
        Index(None, "object_id", "id"),
    )

    __subject__ = Subject("actor_id")

    id: Mapped[UUID] = _kept(primary_key=True)
    at: Mapped[datetime] = _kept()
    # No foreign key: the log outlives the organization. Empty for what happens before anybody has logged in.
    organization_id: Mapped[UUID | None] = _kept()  # type: ignore[assignment]
    actor_kind: Mapped[str] = _kept()
    actor_id: Mapped[UUID | None] = _kept(what="subject")
    on_behalf_of: Mapped[UUID | None] = _kept(what="subject")
    action: Mapped[str] = _kept()
    object_type: Mapped[str] = _kept()
    object_id: Mapped[UUID | None] = _kept()
    outcome: Mapped[str] = _kept()
    reason: Mapped[str] = _kept(what="message")
    request_id: Mapped[str] = _kept()
    session_ref: Mapped[str] = _kept(what="pseudonym")
    address_prefix: Mapped[str] = _kept(what="address")
    changes: Mapped[dict[str, Any]] = mapped_column(info=content("history"))
    facts: Mapped[dict[str, Any]] = _kept()
    row_hash: Mapped[bytes] = _kept()
    # The place in the order of transactions; bigint, because nothing maps xid8. Transaction numbers start again after
    # dump and restore into another cluster, so places compare only inside one cluster.
    txid: Mapped[int] = _kept(BigInteger, server_default=text("((pg_current_xact_id())::text)::bigint"))
    cluster: Mapped[int] = _kept(BigInteger, server_default=text(CLUSTER))


class AuditSegment(Base):
    """A signed stretch of the log; each holds the seal of the one before, so none can be changed or left out."""

    __tablename__ = "audit_segments"
    __retention__ = forever("without a seal its stretch of the log proves nothing")
    __table_args__ = (Index(None, "cluster", "last_txid"),)

    number: Mapped[int] = _kept(BigInteger, primary_key=True, autoincrement=False)
    sealed_at: Mapped[datetime] = _kept()
    cluster: Mapped[int] = _kept(BigInteger)
    last_txid: Mapped[int] = _kept(BigInteger)
    last_id: Mapped[UUID] = _kept()
    row_count: Mapped[int] = _kept()
    root: Mapped[bytes] = _kept()
    previous_seal: Mapped[bytes] = _kept()
    seal: Mapped[bytes] = _kept()
    # Id, place and hash of each row, in order: with the root alone a missing row could be noticed, not named.
    members: Mapped[bytes] = _kept()


COLUMNS = tuple(
    column.name for column in AuditRow.__table__.columns if column.name not in ("row_hash", "txid", "cluster")
)
"""What the writer chooses and `row_hash` covers; the place (txid, cluster) is covered by the seal."""
INSERT = (
    f"INSERT INTO audit_log ({', '.join(COLUMNS)}, row_hash) "  # noqa: S608 - constant names
    f"VALUES ({', '.join(f'${number}' for number in range(1, len(COLUMNS) + 2))})"
)


def kept_since(settings: Settings) -> datetime:
    """What is older may be gone: the purge has been there, and the seals still hold."""
    days = HIPAA_DAYS if settings.compliance_profile is Profile.HIPAA else DAYS
    return clock.now() - timedelta(days=days)


def row_hash(row: dict[str, Any]) -> bytes:
    """SHA-256 over the columns as canonical JSON, the same from the values written and from the row read back."""
    return sha256(canonical(row)).digest()


def canonical(row: dict[str, Any]) -> bytes:
    readable = {
        **row,
        "at": row["at"].astimezone(UTC),
        "changes": orjson.loads(row["changes"]),
        "facts": orjson.loads(row["facts"]),
    }
    return orjson.dumps(readable, default=str, option=orjson.OPT_SORT_KEYS)


async def record(ctx: Context, action: str, changes: Changes, facts: dict[str, Any]) -> None:
    """Write the row of a finished action in the action's own transaction; if this fails, so does the change."""
    await _insert(ctx, [_row(ctx, action, "done", ctx.actor, ctx.work.tenant, changes, facts)])


async def write_security_events(ctx: Context) -> None:
    """Log and store what `ctx.note` collected, in a transaction of its own, so that no rollback can erase it.

    Uses the connection of the transaction that has just ended: taking a second one from the pool while holding the
    first is how pools deadlock. A lost database loses the rows, never the log lines.
    """
    events, ctx.security_events = ctx.security_events, []
    for noted in events:
        who, facts = str(ctx.acted_by or noted.actor), plain(noted.facts, checked=True)
        tenant = str(noted.organization_id or "")
        tell = log.info if noted.outcome == "read" else log.warning
        tell(
            "security event", action=noted.action, outcome=noted.outcome, actor=who, organization=tenant, details=facts
        )
    raw = ctx.work.raw
    try:
        async with raw.transaction():
            for tenant, group in groupby(events, key=lambda noted: noted.organization_id):
                await raw.execute("SELECT set_config('app.tenant', $1, true)", str(tenant or ""))
                await _insert(ctx, [_row_of(ctx, noted) for noted in group])
    except LOST as error:
        log.error("security events not stored", count=len(events), error=type(error).__name__)
        if any(noted.outcome == "read" for noted in events):
            # Nobody sees what it could not be recorded that they saw.
            raise Unavailable("The reading could not be recorded.", retry_after=5) from error


def _about(account: Any) -> Changes:
    """A failed login has no actor: it is found by the account that it was tried on."""
    try:
        return Changes("users", UUID(str(account)))
    except ValueError:  # no account, or none of ours: the event is written all the same
        return Changes()


def _row_of(ctx: Context, noted: SecurityEvent) -> dict[str, Any]:
    changes = _about(noted.facts.get("account"))
    return _row(ctx, noted.action, noted.outcome, noted.actor, noted.organization_id, changes, noted.facts)


def _row(
    ctx: Context, action: str, outcome: str, actor: Actor, tenant: UUID | None, changes: Changes, facts: dict[str, Any]
) -> dict[str, Any]:
    for_whom = ctx.on_behalf_of
    if ctx.acted_by is not None:
        # What support does in somebody's account is support's: the person is only for whom it was done.
        actor, for_whom = ctx.acted_by, ctx.actor
    if ctx.emergency:
        facts = facts | {"break_glass": True}
    return {
        "id": new_id(),
        "at": clock.now(),
        "organization_id": tenant,
        "actor_kind": str(actor.kind),
        "actor_id": actor.id,
        "on_behalf_of": for_whom.id if for_whom else None,
        "action": action,
        "object_type": changes.object_type,
        "object_id": changes.object_id,
        "outcome": outcome,
        "reason": without_numbers(str(plain(facts.get("reason", "")))),
        "request_id": plain(ctx.caller.request_id),
        "session_ref": keyed_hash("audit.session", ctx.login.key).hex()[:16] if ctx.login else "",
        "address_prefix": region_of(ctx.caller.address),
        "changes": _json(changes.fields),
        "facts": _json(plain({name: value for name, value in facts.items() if name != "reason"}, checked=True)),
    }


async def _insert(ctx: Context, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row["reason"] = await without_names(ctx.work.raw, row)
    began = time.time_ns()
    values = [(*(row[name] for name in COLUMNS), row_hash(row)) for row in rows]
    await ctx.work.raw.executemany(INSERT, values)
    telemetry.record_statement(INSERT, began)


def _json(value: dict[str, Any]) -> str:
    encoded = orjson.dumps(value)
    return encoded.decode() if len(encoded) <= MOST_BYTES else '{"...": "too large to keep"}'
