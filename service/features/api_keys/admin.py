"""API keys, as staff find them."""

from __future__ import annotations

from service.features.api_keys import queries
from service.web.staff import Column, of_organizations

STAFF = (
    of_organizations(
        "/staff/api-keys",
        "API keys",
        queries.list_keys_for_staff,
        Column("Key", "id", kind="break"),
        Column("Begins with", "prefix"),
        Column("Role", "role"),
        Column("Made", "created_at"),
        Column("Last used", "last_used_at"),
        Column("Revoked", "revoked_at"),
        lead="The keys of all organizations, as anybody who has one may show them: never what opens the door.",
        order=64,
    ),
)
