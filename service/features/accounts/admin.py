"""People, as staff find them, and what staff do for them."""

from __future__ import annotations

from typing import Any

from service.features.accounts import actions, queries
from service.features.accounts.schemas import OneSession, PeopleWanted
from service.web.staff import Act, Column, Listing

PEOPLE = "/staff/people"


def _lives(view: Any) -> bool:
    """The account page (features/admin) shows a person; what is deleted can only come back."""
    return view.person.deleted_at is None


STAFF = (
    Listing(
        PEOPLE,
        "People",
        queries.list_people,
        wanted=PeopleWanted,
        columns=(
            Column("Account", "id", link="/staff/people/{id}", kind="break"),
            Column("E-mail", "email", personal=True, kind="break"),
            Column("Name", "name", personal=True),
            Column("State", "state", badges={"deleted": "danger", "unconfirmed": "warning"}),
            Column("Since", "created_at"),
        ),
        lead="Everybody with an account, the newest first; deleted ones for as long as they can come back.",
        empty=("Nobody", "No account has this id, and no address begins like this. Try a shorter beginning."),
        order=4,
        item="person_id",
    ),
    Act(
        PEOPLE, "reset-link", "Send a link to reset the password", actions.send_reset_link,
        hint="To the account's own address; it works for half an hour.", done="The link is on its way.", applies=_lives,
    ),
    Act(
        PEOPLE, "end-session", "End one session", actions.end_session_of, form=OneSession,
        hint="Logs out this device alone.", done="That device is logged out.", offered=False,
    ),
    Act(
        PEOPLE, "end-sessions", "End all sessions", actions.end_sessions_of,
        hint="Logs them out everywhere, for good.", done="They are logged out everywhere.",
    ),
    Act(
        PEOPLE, "confirm-address", "Confirm the address", actions.confirm_address_of,
        hint="For whom no mail reaches, and who proved in another way that the address is theirs.",
        done="The address is confirmed.", applies=lambda view: _lives(view) and view.person.email_verified_at is None,
    ),
    Act(
        PEOPLE, "reset-second-factor", "Reset the second factor", actions.reset_totp_of, danger=True,
        hint="Only when you are sure who asks: from then on the password alone opens the account.",
        done="Codes are off. They are logged out everywhere.",
        applies=lambda view: _lives(view) and view.person.has_totp and not view.person.is_staff,
    ),
    Act(
        PEOPLE, "lock", "Lock the account", actions.lock, danger=True,
        hint="Nobody can log in, and whoever is in goes out. Nothing is deleted.", done="The account is locked.",
        applies=lambda view: _lives(view) and view.person.locked_at is None,
    ),
    Act(
        PEOPLE, "unlock", "Unlock the account", actions.unlock, hint="They can log in again.",
        done="The account is unlocked.", applies=lambda view: _lives(view) and view.person.locked_at is not None,
    ),
    Act(
        PEOPLE, "recover", "Recover the deleted account", actions.recover,
        hint="As it was, while it can come back. Be sure that its owner asks: a mail tells them.",
        done="The account is back.", applies=lambda view: view.person.deleted_at is not None,
    ),
)  # fmt: skip
