"""Imports, as staff find them."""

from __future__ import annotations

from service.features.imports import queries
from service.web.staff import Column, of_organizations

STAFF = (
    of_organizations(
        "/staff/imports",
        "Imports",
        queries.list_imports_for_staff,
        Column("Import", "id", kind="break"),
        Column("State", "state"),
        Column("Bytes", "size", kind="num"),
        Column("Rows", "rows", kind="num"),
        Column("Refused", "refused", kind="num"),
        Column("Began", "created_at"),
        Column("Ended", "finished_at"),
        lead="Tables that organizations sent in, the newest first.",
        order=62,
    ),
)
