"""Imports, as staff find them."""

from __future__ import annotations

from service.features.imports import queries
from service.web.staff import Column, Listing
from service.web.staff_lists import OfOrganization

STAFF = (
    Listing(
        "/staff/imports",
        "Imports",
        queries.list_imports_for_staff,
        wanted=OfOrganization,
        columns=(
            Column("Import", "id", kind="break"),
            Column("Organization", "organization_id", link="/staff/organizations/{organization_id}", kind="break"),
            Column("State", "state"),
            Column("Bytes", "size", kind="num"),
            Column("Rows", "rows", kind="num"),
            Column("Refused", "refused", kind="num"),
            Column("Began", "created_at"),
            Column("Ended", "finished_at"),
        ),
        lead="Tables that organizations sent in, the newest first.",
        empty=("None", "No organization has any, or not the one whose id you gave."),
        order=62,
    ),
)
