"""Organizations, as staff find them."""

from __future__ import annotations

from service.features.organizations import queries
from service.features.organizations.schemas import OrganizationsWanted
from service.web.staff import ORGANIZATION, Column, Listing
from service.web.staff_lists import OfOrganization

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
    Listing(
        "/staff/memberships",
        "Memberships",
        queries.list_memberships,
        wanted=OfOrganization,
        columns=(
            Column("Membership", "id", kind="break"),
            Column("Account", "user_id", link="/staff/people/{user_id}", kind="break"),
            ORGANIZATION,
            Column("Role", "role"),
            Column("Since", "created_at"),
        ),
        lead="Who belongs where, the newest first.",
        empty=("None", "No organization has any, or not the one whose id you gave."),
        order=7,
    ),
)
