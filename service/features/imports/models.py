"""An import is one uploaded file and how far it has come; its verdicts stay with it, its file only while it runs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Double,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.database import Base
from service.core.errors import Conflict
from service.core.ids import new_id
from service.features.notifications.models import Kind
from service.guardrails.personal_data import author, content, internal
from service.guardrails.retention import days_after, with_parent
from service.guardrails.tenancy import TenantScoped
from service.guardrails.uploads.kept import keep

KEPT_DAYS = 90
FINISHED = Kind("import_finished", "An import of yours has ended")


class State(StrEnum):
    """arriving -> waiting -> reading -> (storing ->) done; or refused, cancelled, stopped."""

    ARRIVING = "arriving"
    WAITING = "waiting"
    READING = "reading"
    STORING = "storing"
    DONE = "done"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    STOPPED = "stopped"


class Mode(StrEnum):
    ALL = "all"
    GOOD = "good"


class DecimalMark(StrEnum):
    POINT = "point"
    COMMA = "comma"


def _words(kind: type[StrEnum], name: str) -> Enum:
    words = [each.value for each in kind]
    made = {"native_enum": False, "create_constraint": True, "length": 16}
    return Enum(kind, name=name, values_callable=lambda _: words, **made)


# By id, the key's end: keys themselves are not indexed.
keep(
    "imports",
    "[0-9a-f-]{36}/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "SELECT object_key AS key FROM imports"
    " WHERE id = ANY(ARRAY(SELECT right(key, 36)::uuid FROM unnest($1::text[]) AS key)) AND object_key = ANY($1)",
)


class Import(TenantScoped, Base):
    __tablename__ = "imports"
    __retention__ = days_after("created_at", days=KEPT_DAYS, reason="months later somebody asks what became of a row")
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        Index(None, "created_at"),
        Index("ix_imports_open", "organization_id", "id", postgresql_where=text("object_key IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    created_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    created_by: Mapped[UUID | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL"), index=True, info=author()
    )
    name: Mapped[str] = mapped_column(String(120), info=content())
    size: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0", info=internal())
    object_key: Mapped[str | None] = mapped_column(Text, info=internal())
    """Where the file is stored; None from the moment it is gone, soon after the end."""
    # No foreign key: what became of a file is still worth reading when the indicator is gone for good.
    indicator_id: Mapped[UUID | None] = mapped_column(info=internal())
    mode: Mapped[Mode] = mapped_column(_words(Mode, "mode"), info=internal())
    zone: Mapped[str] = mapped_column(String(64), info=internal())
    decimal: Mapped[DecimalMark] = mapped_column(_words(DecimalMark, "decimal"), info=internal())

    state: Mapped[State] = mapped_column(_words(State, "state"), default=State.ARRIVING, info=internal())
    remark: Mapped[str] = mapped_column(Text, default="", server_default="", info=content())
    layout: Mapped[str] = mapped_column(Text, default="", server_default="", info=internal())
    position: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0", info=internal())
    """Bytes of the file that are done with; reading goes on there, whoever reads."""
    line: Mapped[int] = mapped_column(Integer, default=1, server_default="1", info=internal())
    rows: Mapped[int] = mapped_column(Integer, default=0, server_default="0", info=internal())
    added: Mapped[int] = mapped_column(Integer, default=0, server_default="0", info=internal())
    unchanged: Mapped[int] = mapped_column(Integer, default=0, server_default="0", info=internal())
    refused: Mapped[int] = mapped_column(Integer, default=0, server_default="0", info=internal())
    fed: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid), default=list, server_default="{}", info=internal())
    """Indicators that got readings, the first MOST_NAMED: whoever is told of the import at its end is told which."""
    cancelled_at: Mapped[datetime | None] = mapped_column(info=internal())
    finished_at: Mapped[datetime | None] = mapped_column(info=internal())

    claim: Mapped[UUID | None] = mapped_column(info=internal())
    """Whoever works on it writes only while this is still theirs: a worker that wakes up late changes nothing."""
    leased_until: Mapped[datetime | None] = mapped_column(info=internal())
    served_at: Mapped[datetime | None] = mapped_column(info=internal())
    attempts: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0", info=internal())

    def cancel(self) -> None:
        if self.finished_at is not None or self.cancelled_at is not None:
            raise Conflict("This import has ended.", mend="Reload to see how.")
        if self.state is State.STORING:
            raise Conflict("Its readings are being stored: all of them, or it would be half done.")
        self.cancelled_at = clock.now()


def _of_an_import() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["organization_id", "import_id"], ["imports.organization_id", "imports.id"])


class ImportVerdict(TenantScoped, Base):
    """The verdicts of one piece of the file, as lines of the CSV that people download, in the order of `number`.

    Written in the transaction that stores the piece, so that a worker killed in between leaves neither or both.
    """

    __tablename__ = "import_verdicts"
    __retention__ = with_parent(Import.__tablename__, reason="says what became of the rows of one import")
    __table_args__ = (
        _of_an_import(),
        Index("ix_import_verdicts_bad", "organization_id", "import_id", "number", postgresql_where=text("refused > 0")),
    )

    organization_id: Mapped[UUID] = mapped_column(primary_key=True, info=internal("tenant"))
    import_id: Mapped[UUID] = mapped_column(primary_key=True, info=internal())
    number: Mapped[int] = mapped_column(Integer, primary_key=True, info=internal())
    refused: Mapped[int] = mapped_column(Integer, info=internal())
    report: Mapped[str] = mapped_column(Text, info=content())


class ImportRow(TenantScoped, Base):
    """A good row of an all-or-nothing import, kept aside until all are known to be good; empty after the end."""

    __tablename__ = "import_rows"
    __retention__ = with_parent(Import.__tablename__, reason="waits for the rest of its file, for minutes")
    __table_args__ = (_of_an_import(),)

    organization_id: Mapped[UUID] = mapped_column(primary_key=True, info=internal("tenant"))
    import_id: Mapped[UUID] = mapped_column(primary_key=True, info=internal())
    indicator_id: Mapped[UUID] = mapped_column(primary_key=True, info=internal())
    at: Mapped[datetime] = mapped_column(primary_key=True, info=internal())
    value: Mapped[float] = mapped_column(Double, info=content())
    line: Mapped[int] = mapped_column(Integer, info=internal())
