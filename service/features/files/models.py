"""A file's row; its bytes are in the store under a random key that changes when they do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, Enum, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.database import Base
from service.core.errors import Conflict
from service.core.ids import new_id
from service.guardrails.personal_data import author, content, internal
from service.guardrails.retention import after_deletion, days_after
from service.guardrails.soft_delete import SoftDeletable
from service.guardrails.tenancy import TenantScoped
from service.guardrails.uploads.kept import keep
from service.guardrails.uploads.policy import Kind, UploadPolicy

ZIP = b"PK\x03\x04"
PNG = Kind("PNG picture", "image/png", (b"\x89PNG\r\n\x1a\n",))
JPEG = Kind("JPEG picture", "image/jpeg", (b"\xff\xd8\xff",))
GIF = Kind("GIF picture", "image/gif", (b"GIF87a", b"GIF89a"))
WEBP = Kind("WebP picture", "image/webp", (b"RIFF",))
PDF = Kind("PDF", "application/pdf", (b"%PDF-",))
OOXML = "application/vnd.openxmlformats-officedocument."
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "png": PNG,
        "jpg": JPEG,
        "jpeg": JPEG,
        "gif": GIF,
        "webp": WEBP,
        "pdf": PDF,
        "xlsx": Kind("Excel workbook", f"{OOXML}spreadsheetml.sheet", (ZIP,)),
        "docx": Kind("Word document", f"{OOXML}wordprocessingml.document", (ZIP,)),
        "csv": Kind("CSV table", "text/csv"),
        "txt": Kind("Text", "text/plain"),
    }
)
"""Never HTML, SVG, archives or programs: what a browser would run, or what hides something else."""
FILES = UploadPolicy("files", KINDS, most_bytes=25_000_000, seconds=120)


class FileState(StrEnum):
    """receiving -> pending -> clean | rejected | quarantined; abandoned when it never came whole, lost when the store
    has it no more. Only a clean one is ever handed out."""

    RECEIVING = "receiving"
    ABANDONED = "abandoned"
    PENDING = "pending"
    CLEAN = "clean"
    REJECTED = "rejected"
    QUARANTINED = "quarantined"
    LOST = "lost"


StateColumn = Enum(
    FileState,
    name="state",
    native_enum=False,
    create_constraint=True,
    length=16,
    values_callable=lambda kinds: list(kinds),
)


def new_path(organization_id: UUID) -> str:
    """Where bytes are put in their region: by tenant, and by nothing that anybody chose or could guess."""
    return f"t/{organization_id}/{uuid4().hex}"


keep("t", "[0-9a-f-]{36}/[0-9a-f]{32}", "SELECT key FROM files WHERE key = ANY($1)")


class File(TenantScoped, SoftDeletable, Base):
    __tablename__ = "files"
    __retention__ = after_deletion(days=30, reason="a deleted file can be restored from the bin for 30 days")
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        Index("ix_files_due", "next_look_at", postgresql_where=text("state = 'pending'")),
        Index("ix_files_half", "created_at", postgresql_where=text("state IN ('receiving', 'abandoned')")),
        Index("ix_files_clean", "checked_at", postgresql_where=text("state = 'clean'")),
        Index("ix_files_key", "key", postgresql_where=text("key <> ''")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    name: Mapped[str] = mapped_column(String(120), info=content())
    kind: Mapped[str] = mapped_column(String(8), info=internal())
    """The extension, which inspection has confirmed once the file is clean."""
    key: Mapped[str] = mapped_column(String(80), info=internal())
    """"" when there are no bytes. Whatever replaces or removes a key has the store's object removed, by a trigger."""
    size: Mapped[int] = mapped_column(BigInteger, info=internal())
    """Bytes; while it is being received, what was reserved for it."""
    digest: Mapped[bytes] = mapped_column(default=b"", info=internal())
    """SHA-256 of what was sent."""
    state: Mapped[FileState] = mapped_column(StateColumn, default=FileState.RECEIVING, info=internal())
    finding: Mapped[str] = mapped_column(String(16), default="", info=internal())
    """Why it was rejected: a word of schemas.SENTENCES."""
    active: Mapped[bool] = mapped_column(default=False, info=internal())
    """A PDF that would run something in its reader."""
    looks: Mapped[int] = mapped_column(default=0, info=internal())
    next_look_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    checked_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    """When the store was last seen to have it."""
    created_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    created_by: Mapped[UUID | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL"), index=True, info=author()
    )

    def insist_on_being_clean(self) -> None:
        if self.state is not FileState.CLEAN:
            raise Conflict("This file cannot be downloaded.", mend="Its page says why.")


class FileFinding(Base):
    """What the scanner found, for staff: which organization, which file, nothing of its name or content."""

    __tablename__ = "file_findings"
    __table_args__ = (Index("ix_file_findings_organization_id_id", "organization_id", "id"),)
    __retention__ = days_after("found_at", days=400, reason="an attack is looked into up to a year later")

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    organization_id: Mapped[UUID] = mapped_column(info=internal("tenant"))
    file_id: Mapped[UUID] = mapped_column(index=True, info=internal())
    signature: Mapped[str] = mapped_column(String(200), info=internal())
    found_at: Mapped[datetime] = mapped_column(default=clock.now, index=True, info=internal())


class FileRemoval(Base):
    """A key whose object must go: written by a trigger in the transaction that gave the key up."""

    __tablename__ = "file_removals"
    __retention__ = days_after("asked_at", days=90, reason="the sweeper finds what could not be removed by then")

    key: Mapped[str] = mapped_column(String(80), primary_key=True, info=internal())
    asked_at: Mapped[datetime] = mapped_column(index=True, info=internal())
    """When the store is to be asked: at once, and some minutes later each time it refused."""
