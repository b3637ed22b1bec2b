"""A visit of support over HTTP: it looks as the customer, touches next to nothing, and everybody sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

import pytest

from infra.sandbox.mail import MailSink
from service.core import clock
from service.core.ids import new_id
from service.guardrails import sessions
from service.guardrails.impersonation import LONGEST
from service.guardrails.permissions import Role
from service.guardrails.purposes import EVERYTHING
from tests.features.accounts.conftest import Post
from tests.features.support.conftest import REASON, Case, text_of
from tests.support.client import HIDDEN
from tests.support.factories import Person
from tests.support.servers import RunningWorker

OVER = "/impersonation/over"


async def test_a_visit_from_the_form_to_the_way_back(case: Case) -> None:
    assert case.owner.organization_id is not None
    await case.factory.indicator(case.owner.organization_id, "Signups of the customer")
    own = case.browser.http.cookies["sid"]
    assert case.path in await case.browser.page(f"/staff/people/{case.owner.id}")
    assert case.name not in await case.browser.page(case.path), "nobody reads a name without a reason"
    why = {"next": f"/staff/people/{case.owner.id}", "reason": REASON}
    assert (await case.press(case.browser, "/staff/reasons", page="/staff", **why)).status_code == 303
    form = await case.browser.page(case.path)
    assert case.name in form
    assert "Organization" in form

    entered = await case.enter()
    assert (entered.status_code, entered.headers["location"]) == (303, "/dashboard")
    inside = case.browser.http.cookies["sid"]
    assert inside != own
    for path in ("/dashboard", "/members", "/organization", "/audit-log", "/account", f"/indicators/{uuid4()}"):
        page = text_of((await case.browser.get(path)).text)
        assert f"you are in the account of {case.name}" in page, path
    shown = await case.browser.page("/indicators")
    assert "Signups of the customer" in shown, "as the person, in their organization"
    assert f"you are in the account of {case.name}" in text_of(shown)
    assert REASON in text_of(shown)
    assert "Log out" not in shown, "there is one way out, and it says what it does"
    for path in ("/pricing", "/nothing-is-here"):
        public = text_of((await case.browser.get(path)).text)
        assert "You are in a customer's account" in public, "also where nobody is asked for a login"

    left = await case.press(case.browser, "/impersonation/stop")
    assert (left.status_code, left.headers["location"]) == (303, "/staff")
    back = case.browser.http.cookies["sid"]
    assert back not in (own, inside), "a new id, both ways"
    page = text_of(await case.browser.page("/staff"))
    assert "are yourself again" in page
    assert "in the account of" not in page
    assert "You are in a customer's account" not in text_of(await case.browser.page("/pricing"))
    case.browser.http.cookies.set("sid", inside, domain=case.browser.http.base_url.host)
    assert (await case.browser.get("/dashboard")).headers["location"].startswith("/login"), "it opens nothing any more"

    row = await case.visit()
    assert (row["person_id"], row["staff_id"], row["reason"]) == (case.owner.id, case.staff.id, REASON)
    assert row["ended_at"] is not None
    log = text_of(await case.customer.page("/audit-log"))
    assert f"Our support, for {case.name} began a visit" in log
    assert f"Our support, for {case.name} ended a visit" in log
    assert REASON in log
    for action in ("support.begin", "support.stop", "audit_log.read"):
        first = (await case.rows(action))[0]
        assert (first["actor_kind"], first["actor_id"]) == ("staff", case.staff.id), action
        assert first["on_behalf_of"] == case.owner.id, action
    [entry] = (await case.customer.api("GET", "/audit_log?action=support.begin")).json()["items"]
    assert (entry["actor_id"], entry["on_behalf_of"]) == (str(case.staff.id), str(case.owner.id))
    access = text_of(await case.customer.page("/organization/support"))
    assert REASON in access
    assert case.name in access


FORBIDDEN = [
    ("POST", "/account/password", "accounts.change_password"),
    ("POST", "/account/name", "accounts.change_name"),
    ("POST", "/account/email", "accounts.request_new_email"),
    ("POST", "/account/totp", "accounts.offer_totp"),
    ("GET", "/account/totp", "accounts.get_totp_offer"),
    ("GET", "/account/sessions", "accounts.list_devices"),
    ("POST", "/account/sessions/end-others", "accounts.end_other_sessions"),
    ("POST", "/account/recovery-codes", "accounts.renew_recovery_codes"),
    ("POST", "/logout", "accounts.log_out"),
    ("POST", "/confirm", "accounts.confirm_identity"),
    ("POST", "/account/deletion", "accounts.delete"),
    ("POST", "/organization", "organizations.rename"),
    ("POST", "/organization/deletion", "organizations.delete"),
    ("POST", "/organization/departure", "organizations.leave"),
    ("POST", "/organization/support/opening", "support.allow"),
    ("POST", "/members/invitations", "organizations.invite"),
    ("GET", "/organizations", "organizations.list"),
    ("GET", "/audit-log/export/csv", "audit_log.export"),
    ("GET", "/billing/invoices", "billing.list_invoices"),
    ("GET", "/staff", "staff.enter"),
    ("POST", "/staff/dead-letters/replay", "staff.enter"),
]
FIELDS = {
    "/account/password": {"current": "correct horse battery staple", "password": "another very long one 1"},
    "/account/name": {"name": "Mallory"},
    "/account/email": {"email": "mallory@example.com"},
    "/confirm": {"proof": "correct horse battery staple"},
    "/account/deletion": {"email": "x@example.com"},
    "/organization": {"name": "Mine"},
    "/organization/deletion": {"name": "Mine"},
    "/members/invitations": {"email": "mallory@example.com", "role": "owner"},
}


async def test_what_support_may_not_do_is_refused_said_and_recorded(case: Case) -> None:
    before = await case.superuser.fetchrow("SELECT * FROM users WHERE id = $1", case.owner.id)
    await case.enter()
    for method, path, action in FORBIDDEN:
        if method == "GET":
            answer = await case.browser.get(path)
        else:
            answer = await case.press(case.browser, path, **FIELDS.get(path, {}))
        assert answer.status_code == 403, f"{method} {path}: {answer.status_code} {answer.headers.get('location')}"
        said = text_of(answer.text)
        assert "Not while you are in somebody's account" in said, path
        assert "press Stop" in said, path
        assert f"you are in the account of {case.name}" in said, path
        [row, *_] = await case.rows(action)
        assert (row["outcome"], row["actor_kind"], row["actor_id"]) == ("denied", "staff", case.staff.id), path
        assert row["on_behalf_of"] == case.owner.id, path
    made = await case.press(case.browser, "/api-keys/new", name="Back door", role="owner", expires="never")
    assert made.status_code in (403, 404, 422)
    assert await case.superuser.fetchrow("SELECT * FROM users WHERE id = $1", case.owner.id) == before
    assert "tried to change" in text_of(await case.customer.page("/audit-log"))


async def test_time_is_up_whatever_is_clicked_and_the_way_back_is_open(case: Case) -> None:
    await case.enter()
    for _ in range(2):
        clock.advance(LONGEST / 2 - timedelta(seconds=20))
        assert (await case.browser.get("/dashboard")).status_code == 200
    clock.advance(timedelta(seconds=60))
    over = await case.browser.get("/members")
    assert (over.status_code, over.headers["location"].split("?")[0]) == (303, OVER), "use does not prolong it"
    assert "15 minutes are over" in text_of(await case.browser.page(OVER))
    back = await case.browser.submit(OVER)
    assert back.headers["location"] == "/staff"
    assert "are yourself again" in await case.browser.page("/staff")
    row = await case.visit()
    assert row["ended_at"] == row["ends_at"]


async def test_whoever_never_comes_back_is_closed_and_the_person_is_told_once(
    case: Case, worker: RunningWorker, mailbox: MailSink
) -> None:
    await case.enter()
    row, post = await case.visit(), Post(mailbox)
    clock.advance(LONGEST + timedelta(seconds=1))
    for _ in range(600):
        # The worker puts the end off by a quarter of an hour on PostgreSQL's clock, which no test moves.
        moved = await case.superuser.execute(
            "UPDATE pgqueuer SET execute_after = now() WHERE entrypoint = 'support.close_when_over'"
            " AND convert_from(payload, 'UTF8') LIKE '%' || $1 || '%'",
            str(row["id"]),
        )
        if moved != "UPDATE 0":
            break
        await asyncio.sleep(0.05)
    await case.superuser.execute("NOTIFY ch_pgqueuer")
    (mail,) = await post.to(case.owner.email)
    text = mail.text
    assert REASON in text
    assert "/organization/support" in text
    assert (await case.visit())["ended_at"] == row["ends_at"]
    assert "ended a visit whose time was over" in text_of(await case.customer.page("/audit-log"))
    assert (await case.browser.submit(OVER)).headers["location"] == "/staff", "the way back stays open"
    assert [one["outcome"] for one in await case.rows("support.come_back")] == ["done"]
    assert len(await post.to(case.owner.email)) == 1


async def test_whoever_may_not_decide_about_visits_is_led_to_no_closed_page(
    case: Case, worker: RunningWorker, mailbox: MailSink
) -> None:
    member = await case.factory.person(Role.MEMBER, case.owner.organization_id)
    fields = {"organization_id": str(case.owner.organization_id), "reason": REASON}
    entered = await case.browser.submit(f"/staff/people/{member.id}/impersonation", page="/staff", **fields)
    assert entered.status_code == 303
    assert (await case.press(case.browser, "/impersonation/stop")).status_code == 303
    (mail,) = await Post(mailbox).to(member.email)
    assert REASON in mail.text
    assert "Its owner decides" in mail.text
    assert "/organization/support" not in mail.text


async def end_all_sessions_of_the_person(case: Case) -> None:
    await case.press(case.customer, "/account/sessions/end-others", page="/account/sessions")


async def take_the_staff_flag(case: Case) -> None:
    await case.superuser.execute("UPDATE users SET is_staff = false WHERE id = $1", case.staff.id)


async def end_the_sessions_of_the_staff(case: Case) -> None:
    await case.superuser.execute("UPDATE users SET session_epoch = session_epoch + 1 WHERE id = $1", case.staff.id)


async def make_the_person_staff(case: Case) -> None:
    await case.superuser.execute("UPDATE users SET is_staff = true WHERE id = $1", case.owner.id)


async def delete_the_person(case: Case) -> None:
    await case.superuser.execute(
        "UPDATE users SET deleted_at = now(), deletion_id = $2 WHERE id = $1", case.owner.id, new_id()
    )


async def keep_support_out(case: Case) -> None:
    answer = await case.customer.submit("/organization/support/closing", page="/organization/support")
    assert answer.status_code == 303
    assert "stays outside" in await case.customer.page("/organization/support")


async def remove_the_person_from_the_organization(case: Case) -> None:
    await case.superuser.execute("DELETE FROM memberships WHERE user_id = $1", case.owner.id)


async def restrict(case: Case, person: Person | None = None) -> None:
    await case.superuser.execute(
        "INSERT INTO processing_limits (id, user_id, purpose, reason, placed_at) VALUES ($1, $2, $3, 'x', now())",
        new_id(), (person or case.owner).id, EVERYTHING,
    )  # fmt: skip


@pytest.mark.parametrize(
    "something_happens",
    [
        end_all_sessions_of_the_person,
        take_the_staff_flag,
        end_the_sessions_of_the_staff,
        make_the_person_staff,
        delete_the_person,
        keep_support_out,
        restrict,
        remove_the_person_from_the_organization,
    ],
)
async def test_a_visit_ends_at_once_when(case: Case, something_happens: Callable[[Case], Awaitable[None]]) -> None:
    await case.enter()
    assert (await case.browser.get("/dashboard")).status_code == 200
    await something_happens(case)
    answer = await case.browser.get("/dashboard")
    assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, OVER)
    fragment = await case.browser.get("/notifications/unread", headers={"hx-request": "true"})
    assert fragment.headers["hx-redirect"].split("?")[0] == OVER


async def test_it_ends_with_the_session_that_was_put_aside(case: Case) -> None:
    await case.enter()
    await sessions.end_all(case.factory.resources, case.staff.id)
    assert (await case.browser.get("/dashboard")).headers["location"].startswith("/login")
    back = await case.browser.submit(OVER)
    assert back.headers["location"] == "/login", "there is nothing to come back to"


async def test_whom_nobody_may_visit(case: Case) -> None:
    colleague = await case.factory.person(Role.OWNER, staff=True)
    unconfirmed = await case.factory.person(Role.OWNER, verified=False)
    gone = await case.factory.person(Role.OWNER)
    await case.superuser.execute(
        "UPDATE users SET deleted_at = now(), deletion_id = $2 WHERE id = $1", gone.id, new_id()
    )
    alone, restricted = await case.factory.person(), await case.factory.person(Role.OWNER)
    await restrict(case, restricted)
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
    await keep_support_out(case)
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


async def test_what_is_harmless_may_be_done_and_is_recorded_as_ours(case: Case) -> None:
    assert case.owner.organization_id is not None
    source = await case.factory.source(case.owner.organization_id)
    await case.enter()
    answer = await case.press(case.browser, f"/sources/{source}/pull", page=f"/sources/{source}")
    assert answer.status_code != 403
    assert [one["outcome"] for one in await case.rows("sources.pull_now")] != ["denied"]


async def test_a_visit_is_among_the_devices_of_the_staff_and_not_of_the_person(case: Case) -> None:
    await case.enter()
    assert "Support, in somebody" not in await case.customer.page("/account/sessions")
    token, login = await case.factory.log_in(case.staff)
    assert token
    devices = await sessions.devices(case.factory.resources, login)
    assert any(one.label == "Support, in somebody's account" for one in devices)
    assert all(one.key for one in devices)
