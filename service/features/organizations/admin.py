"""Organizations, as staff find them."""

from __future__ import annotations

from service.features.organizations import queries
from service.features.organizations.schemas import OrganizationsWanted
from service.web.staff import Column, Listing

STAFF = (
    Listing(
        "/staff/organizations",
        "Organizations",
        queries.list_organizations_for_staff,
        wanted=OrganizationsWanted,
        columns=(
            Column("Organization", "id", link="/staff/organizations/{id}", kind="break"),
            Column("Name", "name"),
            Column("Region", "region"),
            Column("State", "state", badges={"deleted": "danger"}),
            Column("Since", "created_at"),
        ),
        lead="Every customer, the newest first; deleted ones for as long as they can come back.",
        empty=("None", "No organization has this id, and no name begins like this. Try a shorter beginning."),
        order=5,
        item="organization_id",
    ),
)
