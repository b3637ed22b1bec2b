"""One copy of data that somebody asked for: how far it is, where the archive lies and until when."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, Enum, ForeignKey, Index, Integer, SmallInteger, String, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.database import Base
from service.core.ids import new_id
from service.guardrails.personal_data import content, internal
from service.guardrails.retention import days_after
from service.guardrails.uploads.kept import keep


class Scope(StrEnum):
    PERSON = "person"
    ORGANIZATION = "organization"


class State(StrEnum):
    """waiting -> building -> ready -> expired; or failed, after which one may ask again."""

    WAITING = "waiting"
    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"
    EXPIRED = "expired"


OPEN = "state IN ('waiting', 'building')"


def _words(kind: type[StrEnum], name: str) -> Enum:
    words = [each.value for each in kind]
    made = {"native_enum": False, "create_constraint": True, "length": 16}
    return Enum(kind, name=name, values_callable=lambda _: words, **made)


def new_path(export_id: UUID) -> str:
    """Where the archive is put in its region."""
    return f"exports/{export_id}/{uuid4().hex}"


keep(
    "exports",
    "[0-9a-f-]{36}/[0-9a-f]{32}",
    "SELECT key FROM data_exports WHERE key = ANY($1) AND key <> ''",
    of_person="SELECT key FROM data_exports WHERE user_id = $1 AND key <> ''",
    # Without its claim nobody finishes it: what a worker has packed by then it throws away.
    stop_person="UPDATE data_exports SET state = 'failed', claim = NULL, leased_until = NULL"
    " WHERE user_id = $1 AND state IN ('waiting', 'building')",
)


class DataExport(Base):
    __tablename__ = "data_exports"
    __retention__ = days_after("asked_at", days=90, reason="answers 'did I get my data?' for three months")
    __table_args__ = (
        # One at a time: a copy of everything is the dearest thing somebody can ask for.
        Index("uq_data_exports_person", "user_id", unique=True, postgresql_where=text(f"scope = 'person' AND {OPEN}")),
        Index(
            "uq_data_exports_organization",
            "organization_id",
            unique=True,
            postgresql_where=text(f"scope = 'organization' AND {OPEN}"),
        ),
        Index("ix_data_exports_mine", "user_id", "asked_at", "id"),
        Index("ix_data_exports_due", "asked_at", postgresql_where=text(OPEN)),
        Index("ix_data_exports_ready", "expires_at", postgresql_where=text("state = 'ready'")),
        Index("ix_data_exports_key", "key", postgresql_where=text("key <> ''")),
        Index("ix_data_exports_asked_at", "asked_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), info=internal("subject"))
    """Who asked, and the only one who gets it."""
    organization_id: Mapped[UUID | None] = mapped_column(info=internal("tenant"))
    """Whose data it is, when it is an organization's; no key: the row says afterwards that there was a copy."""
    scope: Mapped[Scope] = mapped_column(_words(Scope, "scope"), info=internal())
    state: Mapped[State] = mapped_column(_words(State, "state"), default=State.WAITING, info=internal())
    asked_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    done: Mapped[int] = mapped_column(Integer, default=0, info=internal())
    parts: Mapped[int] = mapped_column(Integer, default=0, info=internal())
    """Tables and files in all, of which `done` are in the archive."""
    rows: Mapped[int] = mapped_column(BigInteger, default=0, info=internal())
    size: Mapped[int] = mapped_column(BigInteger, default=0, info=internal())
    key: Mapped[str] = mapped_column(String(120), default="", info=internal())
    missing: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list, info=content())
    """Files that the store did not have when they were wanted, by name."""
    remark: Mapped[str] = mapped_column(Text, default="", info=content())
    """Why it waits, or failed; for the page."""
    ready_at: Mapped[datetime | None] = mapped_column(info=internal())
    expires_at: Mapped[datetime | None] = mapped_column(info=internal())
    claim: Mapped[UUID | None] = mapped_column(info=internal())
    leased_until: Mapped[datetime | None] = mapped_column(info=internal())
    attempts: Mapped[int] = mapped_column(SmallInteger, default=0, info=internal())
