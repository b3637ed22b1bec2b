"""What goes out about files; what comes in is a form with bytes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from pydantic import Field, computed_field

from service.core.schemas import Output
from service.features.files.models import KINDS, FileState
from service.web.staff_lists import OfOrganization

SENTENCES = {
    "mismatch": "The content is not what the file's name says.",
    "unreadable": "The file is damaged, or not of the kind that its name says.",
    "truncated": "The file is incomplete.",
    "pixels": "The picture has more than 40 million pixels.",
    "frames": "Moving pictures are not taken.",
    "memory": "The file needs too much memory to be checked.",
    "limits": "The file could not be checked within its limits.",
    "entries": "The document has too many parts.",
    "inflated": "The document unpacks to more than 100 MB.",
    "ratio": "A part of the document unpacks to a hundred times its size.",
    "path": "The document names files outside of itself.",
    "symlink": "The document contains a link to another file.",
    "encrypted": "The document is protected by a password, so nobody can check it.",
    "macro": "The document contains macros.",
    "link": "The document loads something from elsewhere when it is opened.",
    "nested": "The document has a program or an archive inside.",
    "doctype": "The document has a part that could make its reader fetch something.",
    "duplicates": "The document has two parts of the same name.",
    "polyglot": "The file is two kinds of file at once.",
    "nul": "The text contains NUL characters.",
    "columns": "The table has more than 1,000 columns.",
    "line": "The text has a line of more than four million characters.",
}
"""Why a file is rejected."""


class FileRead(Output):
    id: UUID
    name: str = Field(examples=["photo.jpg"])
    kind: str = Field(description="The extension.", examples=["jpg"])
    size: int = Field(description="Bytes.", examples=[48_213])
    state: FileState = Field(description="Only a clean file can be downloaded.", examples=[FileState.CLEAN])
    finding: str = Field(description="Why it was rejected, for programs.", examples=[""])
    active: bool = Field(description="A PDF that would run something in its reader.")
    created_at: datetime

    @computed_field(examples=["JPEG picture."])  # type: ignore[prop-decorator]
    @property
    def sentence(self) -> str:
        """What the state means for whoever looks at it."""
        match self.state:
            case FileState.CLEAN:
                label = KINDS[self.kind].label
                return f"{label}; it may run something when it is opened: be careful." if self.active else f"{label}."
            case FileState.REJECTED:
                return f"{SENTENCES.get(self.finding, SENTENCES['unreadable'])} Nothing of it was kept."
            case FileState.QUARANTINED:
                return "A virus scanner recognized it. It is locked away; look at the device it came from."
            case FileState.LOST:
                return "The store does not have it any more. Send it again."
        return "Being checked; it can be downloaded when nothing was found. A late check goes on by itself."


class DeletedFileRead(Output):
    id: UUID
    name: str
    size: int
    deleted_at: datetime


class FileLink(Output):
    """An address that works for whoever has it, until then."""

    url: str = Field(examples=["https://app.example.com/downloads/eyJ0eXAi"])
    expires_at: datetime


class FindingRead(Output):
    id: UUID
    organization_id: UUID
    file_id: UUID
    signature: str
    found_at: datetime


@dataclass(frozen=True, slots=True)
class Used:
    """Megabytes, rounded up; `binned` of them by what can still be restored."""

    megabytes: int
    binned: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a file; `key` and `size` where other bytes take the place of those that were sent."""

    state: FileState
    finding: str = ""
    signature: str = ""
    active: bool = False
    key: str | None = None
    size: int = 0


class FilesWanted(OfOrganization):
    """Which files staff ask about."""

    file_id: UUID | None = Field(None, title="File", description="Its id; empty for all.")


class FileListed(Output):
    """A file, as staff see it in the list."""

    id: UUID
    organization_id: UUID
    kind: str
    size: int
    state: str
    deleted_at: datetime | None
    created_at: datetime
