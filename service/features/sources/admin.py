"""Sources, as staff find them."""

from __future__ import annotations

from service.features.sources import queries
from service.web.staff import Column, Listing
from service.web.staff_lists import OfOrganization

STAFF = (
    Listing(
        "/staff/sources",
        "Sources",
        queries.list_sources_for_staff,
        wanted=OfOrganization,
        columns=(
            Column("Source", "id", kind="break"),
            Column("Organization", "organization_id", link="/staff/organizations/{organization_id}", kind="break"),
            Column("Kind", "kind"),
            Column("Failures in a row", "failures", kind="num"),
            Column("Last success", "ok_at"),
            Column("Paused", "paused_at"),
            Column("Deleted", "deleted_at"),
        ),
        lead="What is pulled from other systems for organizations, and whether it works.",
        empty=("None", "No organization has any, or not the one whose id you gave."),
        order=63,
    ),
)
