"""Files of whichever organization, and what the scanner found: staff see ids and words of ours, never the file."""

from __future__ import annotations

from service.features.files import queries
from service.features.files.schemas import FilesWanted
from service.web.staff import ORGANIZATION, Column, Listing, of_organizations

STAFF = (
    of_organizations(
        "/staff/files",
        "Files",
        queries.list_files_for_staff,
        Column("File", "id", kind="break"),
        Column("Kind", "kind"),
        Column("Bytes", "size", kind="num"),
        Column("State", "state"),
        Column("Deleted", "deleted_at"),
        Column("Sent", "created_at"),
        lead="What organizations uploaded: kinds, sizes and states, no names and no contents.",
        wanted=FilesWanted,
        order=61,
    ),
    Listing(
        "/staff/quarantine",
        "Quarantine",
        queries.list_findings,
        wanted=FilesWanted,
        columns=(
            Column("Found", "found_at"),
            Column("What", "signature", kind="break"),
            ORGANIZATION,
            Column("File", "file_id", kind="break"),
        ),
        lead="What the virus scanner recognized. Nobody can download it; it goes when its organization deletes it.",
        empty=(
            "Nothing in quarantine",
            "What the virus scanner recognizes is listed here; or nothing has the ids given.",
        ),
        order=60,
    ),
)
