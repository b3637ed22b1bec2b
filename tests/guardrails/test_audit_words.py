"""A reason stands in the log for a year: it does not say there who the person is that it is about."""

from __future__ import annotations

from typing import Any

import pytest

from service.guardrails.audit.changes import HIDDEN
from service.guardrails.audit.words import without_numbers
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
        ("write to a@b.example", f"write to {HIDDEN}"),
    ],
)
def test_a_telephone_number_is_told_from_others(typed: str, kept: str) -> None:
    assert without_numbers(typed) == kept
