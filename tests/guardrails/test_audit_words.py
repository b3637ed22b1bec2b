"""A reason stands in the log for a year: it does not say there who the person is that it is about."""

from __future__ import annotations

from typing import Any

import pytest

from service.guardrails.audit.changes import HIDDEN
from service.guardrails.audit.words import hidden, without_numbers
from service.guardrails.permissions import Role
from tests.support.factories import Factory

TYPED = "Maria O'Huber-Lenz (HUBER, +49 170 1234567, m.huber@example.com) rang; Mariannengasse 0800; ticket 4711"


async def test_what_staff_type_about_somebody_names_them_nowhere(factory: Factory, superuser: Any) -> None:
    """A look, an act, and a search that found nobody: three rows about them, or about no one."""
    staff, customer = await factory.person(staff=True), await factory.person(Role.OWNER)
    await superuser.execute("UPDATE users SET name = $2 WHERE id = $1", customer.id, "Maria Huber O'Huber-Lenz")
    path = f"/staff/people/{customer.id}"
    async with await factory.client(staff, "password", "totp") as office:
        assert (await office.submit("/staff/reasons", page="/staff", next=path, reason=TYPED)).status_code == 303
        assert (await office.get(path)).status_code == 200
        ended = await office.submit(f"{path}/end-sessions", page=f"{path}/end-sessions", reason=TYPED)
        assert ended.status_code == 303
        again = await office.submit("/staff/reasons", page="/staff", next="/staff/people", reason=TYPED)
        assert again.status_code == 303
    rows = await superuser.fetch(
        "SELECT action, reason, facts::text FROM audit_log WHERE actor_id = $1 AND reason <> '' ORDER BY id", staff.id
    )
    known = f"{HIDDEN} {HIDDEN} ({HIDDEN}, {HIDDEN}, {HIDDEN} rang; Mariannengasse 0800; ticket 4711"
    assert [(row["action"], row["reason"]) for row in rows] == [
        ("admin.give_reason", known),
        ("staff.read_personal", known),
        ("accounts.end_sessions_of", known),
        ("admin.give_reason", without_numbers(TYPED)),
    ]
    assert "Maria O'Huber-Lenz" in rows[-1]["reason"], "whose it is, nobody said: people read what they type"
    assert not [row for row in rows if "Huber" in row["facts"]]


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("rang from 0043 1 234 56 78, twice", f"rang from {HIDDEN}, twice"),
        ("(030) 1234567 is theirs", f"{HIDDEN} is theirs"),
        ("030/123 45 67", HIDDEN),
        ("ticket 20261123-4711", "ticket 20261123-4711"),
        ("invoice IN-0012345678", "invoice IN-0012345678"),
        ("03.11.2026 at 09:15", "03.11.2026 at 09:15"),
        ("asked on 01/02/2026, paid 03-04-2026", "asked on 01/02/2026, paid 03-04-2026"),
        ("01-23-45-67-89", HIDDEN),
        ("write to a@b.example", f"write to {HIDDEN}"),
    ],
)
def test_a_telephone_number_is_told_from_others(typed: str, kept: str) -> None:
    assert without_numbers(typed) == kept


@pytest.mark.parametrize(
    ("name", "typed", "kept"),
    [
        ("Bo Li", "Bo Li wrote, bo  li too; Li did not", f"{HIDDEN} wrote, {HIDDEN} too; Li did not"),
        ("Ann Smith-Jones", "Ms Jones wrote, ANN SMITH-JONES too", f"Ms {HIDDEN} wrote, {HIDDEN} too"),
        ("jo\u00e3o da silva", "Jo\u00e3o rang, jo\u00e3o da silva wrote", f"{HIDDEN} rang, {HIDDEN} wrote"),
        ("\u738b\u5c0f\u660e", "\u738b\u5c0f\u660e rang", f"{HIDDEN} rang"),
        ("Will", "Will asked what will be", f"{HIDDEN} asked what will be"),
        ("fraud police locked", "Locked: police report, a fraud", f"{HIDDEN}: police report, a fraud"),
        ("Locked stolen card Police request court order", "Locked: Police request", "Locked: Police request"),
        (".* [a-z]+ (", "anything stays (", "anything stays ("),
    ],
)
def test_a_name_is_hidden_and_what_was_found_is_not(name: str, typed: str, kept: str) -> None:
    """Whoever takes the log's words as their name would take the reasons out of it."""
    assert hidden(typed, [name]) == kept


async def test_a_visit_and_an_erasure_name_nobody_either(factory: Factory, superuser: Any) -> None:
    """The person stands there as whom it was done for, in what changed, or as the account of a thing."""
    staff, customer = await factory.person(staff=True), await factory.person(Role.OWNER)
    visited = await factory.person(Role.OWNER)  # nobody looks at whose data must rest
    await superuser.execute("UPDATE users SET name = 'Maria Huber' WHERE id IN ($1, $2)", customer.id, visited.id)
    typed, email = "Maria Huber cannot see her invoices", customer.email
    async with await factory.client(staff, "password", "totp") as office:
        path = "/staff/restrictions/restrict"
        made = await office.submit(path, page=path, email=email, reason=typed)
        assert made.status_code == 303, made.text
        limit = await superuser.fetchval("SELECT id FROM processing_limits WHERE user_id = $1", customer.id)
        path = f"/staff/restrictions/{limit}/lift"
        assert (await office.submit(path, page=path, reason=typed)).status_code == 303
        path = "/staff/erasures/enter"
        entered = await office.submit(path, page=path, email=email, reason=typed)
        assert entered.status_code == 303, entered.text
        path, organization = f"/staff/people/{visited.id}/impersonation", str(visited.organization_id)
        begun = await office.submit(path, page=path, organization_id=organization, reason=typed)
        assert begun.status_code == 303, begun.text
    rows = await superuser.fetch(
        "SELECT action, reason FROM audit_log WHERE reason LIKE '%her invoices' AND $1 IN (actor_id, on_behalf_of)"
        " ORDER BY id", staff.id,
    )  # fmt: skip
    assert {"consents.restrict_person", "consents.lift_restriction", "erasure.enter", "support.begin"} <= {
        row["action"] for row in rows
    }
    assert {row["reason"] for row in rows} == {f"{HIDDEN} cannot see her invoices"}
