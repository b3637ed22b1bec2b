"""A visit of support ends: with its time, with whatever changes its ground, and the person is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from infra.sandbox.mail import MailSink
from service.core import clock
from service.core.ids import new_id
from service.guardrails import sessions
from service.guardrails.impersonation import LONGEST
from service.guardrails.permissions import Role
from tests.features.accounts.conftest import Post
from tests.features.support.conftest import REASON, Case, text_of
from tests.support.servers import RunningWorker

OVER = "/impersonation/over"


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


async def remove_the_person_from_the_organization(case: Case) -> None:
    await case.superuser.execute("DELETE FROM memberships WHERE user_id = $1", case.owner.id)


@pytest.mark.parametrize(
    "something_happens",
    [
        end_all_sessions_of_the_person,
        take_the_staff_flag,
        end_the_sessions_of_the_staff,
        make_the_person_staff,
        delete_the_person,
        Case.keep_support_out,
        Case.restrict,
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
