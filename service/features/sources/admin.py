"""Sources, as staff find them."""

from __future__ import annotations

from service.features.sources import queries
from service.web.staff import Column, of_organizations

STAFF = (
    of_organizations(
        "/staff/sources",
        "Sources",
        queries.list_sources_for_staff,
        Column("Source", "id", kind="break"),
        Column("Kind", "kind"),
        Column("Failures in a row", "failures", kind="num"),
        Column("Last success", "ok_at"),
        Column("Paused", "paused_at"),
        Column("Deleted", "deleted_at"),
        lead="What is pulled from other systems for organizations, and whether it works.",
        order=63,
    ),
)
