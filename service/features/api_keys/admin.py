"""API keys, as staff find them."""

from __future__ import annotations

from service.features.api_keys import queries
from service.web.staff import Column, Listing
from service.web.staff_lists import OfOrganization

STAFF = (
    Listing(
        "/staff/api-keys",
        "API keys",
        queries.list_keys_for_staff,
        wanted=OfOrganization,
        columns=(
            Column("Key", "id", kind="break"),
            Column("Organization", "organization_id", link="/staff/organizations/{organization_id}", kind="break"),
            Column("Begins with", "prefix"),
            Column("Role", "role"),
            Column("Made", "created_at"),
            Column("Last used", "last_used_at"),
            Column("Revoked", "revoked_at"),
        ),
        lead="The keys of all organizations, as anybody who has one may show them: never what opens the door.",
        empty=("None", "No organization has any, or not the one whose id you gave."),
        order=64,
    ),
)
