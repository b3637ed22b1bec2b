"""People, as staff find them."""

from __future__ import annotations

from service.features.accounts import queries
from service.features.accounts.schemas import PeopleWanted
from service.web.staff import Column, Listing

STAFF = (
    Listing(
        "/staff/people",
        "People",
        queries.list_people,
        wanted=PeopleWanted,
        columns=(
            Column("Account", "id", kind="break"),
            Column("E-mail", "email", personal=True, kind="break"),
            Column("Name", "name", personal=True),
            Column("State", "state", badges={"deleted": "danger", "unconfirmed": "warning"}),
            Column("Since", "created_at"),
        ),
        lead="Everybody with an account, the newest first; deleted ones for as long as they can come back.",
        empty=("Nobody", "No account has this id, and no address begins like this. Try a shorter beginning."),
        order=4,
    ),
)
