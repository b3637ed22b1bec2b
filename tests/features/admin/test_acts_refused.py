"""The panel does an act only where it is offered, whoever asks for it and however old their page is."""

from __future__ import annotations

from collections.abc import Iterator

import asyncpg
import pytest

from service.core.ids import new_id
from service.features.accounts import admin as accounts
from service.features.consents import admin as consents
from service.guardrails.permissions import Role
from service.web.staff import Act
from tests.features.admin.conftest import WHY
from tests.support.client import Client
from tests.support.factories import Factory

RESTRICTION = """
    INSERT INTO processing_limits (id, user_id, purpose, reason, placed_at) VALUES ($1, $1, '*', 'A letter', now())
"""
DONE = "SELECT count(*) FROM audit_log WHERE object_id = $1 AND action = ANY(ARRAY['accounts.unlock', $2])"


@pytest.fixture
def never_offered() -> Iterator[None]:
    """Unlocking and ending restrictions are offered to nobody, while what they do would go on letting them through."""
    acts = [
        act for act in (*accounts.STAFF, *consents.STAFF) if isinstance(act, Act) and act.name in ("unlock", "lift")
    ]
    offered = [act.applies for act in acts]
    assert len(acts) == 2
    for act in acts:
        object.__setattr__(act, "applies", lambda view: False)
    yield
    for act, applies in zip(acts, offered, strict=True):
        object.__setattr__(act, "applies", applies)


async def test_an_act_that_is_not_offered_is_not_done_even_where_what_it_does_would_let_it_through(
    factory: Factory, staff: Client, superuser: asyncpg.Connection[object], never_offered: None
) -> None:
    person = await factory.person(Role.OWNER)
    await superuser.execute("UPDATE users SET locked_at = now() WHERE id = $1", person.id)
    await superuser.execute(RESTRICTION, person.id)
    for address, title in (
        (f"/staff/people/{person.id}/unlock", "Unlock the account"),
        (f"/staff/restrictions/{person.id}/lift", "End it"),
    ):
        refused = await staff.submit(address, page=address, reason=WHY)
        assert refused.status_code == 422
        assert f"“{title}” is not for this one as it is now." in refused.text
        assert "Go back and reload" in refused.text
        assert WHY in refused.text, "what was typed stays"
    assert await superuser.fetchval("SELECT locked_at FROM users WHERE id = $1", person.id) is not None
    limit = await superuser.fetchrow("SELECT * FROM processing_limits WHERE id = $1", person.id)
    assert limit is not None
    assert limit["lifting_asked_at"] is None
    assert await superuser.fetchval(DONE, person.id, "consents.lift_restriction") == 0


async def test_what_is_offered_is_done_and_what_it_does_says_best_why_not(
    factory: Factory, staff: Client, superuser: asyncpg.Connection[object]
) -> None:
    person = await factory.person(Role.OWNER)
    await superuser.execute(RESTRICTION, person.id)
    lift, unlock = f"/staff/restrictions/{person.id}/lift", f"/staff/people/{person.id}/unlock"
    assert "This account is not locked." in (await staff.submit(unlock, page=unlock, reason=WHY)).text
    assert (await staff.submit(lift, page=lift, reason=WHY)).status_code == 303
    assert "This restriction ends already." in (await staff.submit(lift, page=lift, reason=WHY)).text
    gone = f"/staff/restrictions/{new_id()}/lift"
    assert "There is no such" in (await staff.submit(gone, page=lift, reason=WHY)).text
    assert str(person.id) in await staff.page(f"/staff/restrictions?limit_id={person.id}")
