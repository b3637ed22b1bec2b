"""Who may begin a visit of support, and whom nobody may visit."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from service.core import clock
from service.core.ids import new_id
from service.guardrails.permissions import Role
from tests.features.support.conftest import REASON, Case, text_of
from tests.support.client import HIDDEN


async def test_whom_nobody_may_visit(case: Case) -> None:
    colleague = await case.factory.person(Role.OWNER, staff=True)
    unconfirmed = await case.factory.person(Role.OWNER, verified=False)
    gone = await case.factory.person(Role.OWNER)
    await case.superuser.execute(
        "UPDATE users SET deleted_at = now(), deletion_id = $2 WHERE id = $1", gone.id, new_id()
    )
    alone, restricted = await case.factory.person(), await case.factory.person(Role.OWNER)
    await case.restrict(restricted)
    locked = await case.factory.person(Role.OWNER)
    await case.superuser.execute("UPDATE users SET locked_at = now() WHERE id = $1", locked.id)
    for person, status, why in (
        (colleague, 422, "Nobody acts as a colleague"),
        (unconfirmed, 422, "never confirmed"),
        (alone, 422, "no organization that lets support in"),
        (restricted, 422, "is restricted"),
        (locked, 422, "is locked"),
        (gone, 404, "no such person"),
    ):
        path = f"/staff/people/{person.id}/impersonation"
        there = str(person.organization_id or uuid4())
        answer = await case.browser.submit(path, page="/staff", organization_id=there, reason=REASON)
        assert answer.status_code == status, person
        assert why in text_of(answer.text)
    assert (await case.enter(organization_id=str(await case.factory.organization()))).status_code == 422
    for reason in ("", "because", "   x         "):
        assert (await case.enter(reason=reason)).status_code == 422, "a reason is a sentence"
    await case.keep_support_out()
    assert "no organization that lets support in" in text_of((await case.enter()).text)
    assert await case.superuser.fetchval("SELECT count(*) FROM support_visits WHERE staff_id = $1", case.staff.id) == 0


async def test_only_fresh_staff_begin_and_nobody_from_inside_a_visit(case: Case) -> None:
    shown = await case.customer.page("/account")
    stolen = dict(HIDDEN.findall(shown))["csrf"]
    fields = {"organization_id": str(case.owner.organization_id), "reason": REASON}
    assert (await case.customer.post(case.path, csrf=stolen, **fields)).status_code in (403, 404)
    clock.advance(timedelta(minutes=11))
    assert (await case.enter()).headers["location"].startswith("/confirm")
    clock.reset()
    await case.enter()
    nested = await case.press(case.browser, case.path, **fields)
    assert nested.status_code == 403
    assert "Not while you are in somebody's account" in text_of(nested.text)
    assert (await case.press(case.customer, "/impersonation/stop")).status_code == 409
    assert (await case.customer.submit("/impersonation/over")).status_code == 409
    assert (await case.customer.get("/dashboard")).status_code == 200, "whoever is in nobody's account stays logged in"
    assert (await case.browser.get("/dashboard")).status_code == 200, "somebody else's Stop stops nothing"
