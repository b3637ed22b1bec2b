"""Break-glass from the shell to the review: it lets somebody in for an hour, loudly, and ends by itself."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from infra.sandbox.mail import MailSink
from service.core import clock
from service.core.context import SYSTEM, Caller, Context
from service.core.errors import Conflict, Forbidden, Invalid, NotFound, ServiceError
from service.features.support import actions
from service.features.support.actions.emergency import Opened
from service.features.support.jobs import break_glass_open, break_glass_unreviewed, measure
from service.guardrails import break_glass
from service.guardrails.permissions import Role
from tests.features.accounts.conftest import Post
from tests.features.support.conftest import REASON, Case, text_of
from tests.support.client import Client
from tests.support.factories import PASSWORD
from tests.support.servers import RunningWorker

MANY = 60
"""More than a page holds."""
NEXT = re.compile(r'<a href="([^"]+)" class="button"[^>]*>(?:(?!</a>).)*Older', re.DOTALL)
WHY = "Nobody of staff can log in: the identity provider is away."


async def as_system(case: Case, verb: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """What the commands do."""
    async with case.factory.resources.database.unit_of_work() as work:
        return await verb(Context(work, case.factory.resources, SYSTEM, Caller("command line")), *arguments)


async def open_for(case: Case, minutes: int = 60) -> Opened:
    opened: Opened = await as_system(case, actions.open_break_glass, case.owner.email, WHY, minutes)
    return opened


async def grant_of(case: Case) -> UUID:
    found: UUID = await case.superuser.fetchval(
        "SELECT id FROM break_glass_grants WHERE user_id = $1 ORDER BY id DESC LIMIT 1", case.owner.id
    )
    return found


async def log_in(case: Case, code: str) -> Client:
    client = await case.stack.enter_async_context(await case.factory.client())
    entered = await client.submit("/login", email=case.owner.email, password=PASSWORD)
    assert entered.headers["location"] == "/login/code", "the password alone is not enough, though they have no app"
    client.answer = await client.submit("/login/code", code=code)  # type: ignore[attr-defined]
    return client


async def test_from_the_shell_to_the_review(case: Case, worker: RunningWorker, mailbox: MailSink) -> None:
    assert (await case.customer.get("/staff")).status_code == 404
    opened = await open_for(case)
    assert (await case.customer.get("/dashboard")).headers["location"].startswith("/login"), "they log in anew"
    wrong = await log_in(case, "aaaaa-aaaaa")
    assert wrong.answer.status_code == 422  # type: ignore[attr-defined]
    client = await log_in(case, opened.code.upper())
    assert client.answer.headers["location"] == "/dashboard"  # type: ignore[attr-defined]
    assert "Break-glass" in await client.page("/staff")
    again = await log_in(case, opened.code)
    assert again.answer.status_code == 422, "it works once"  # type: ignore[attr-defined]

    # What ordinary staff cannot: enter where the organization keeps support out. And still no more than look there.
    other = await case.factory.person(Role.OWNER)
    await case.superuser.execute("UPDATE organizations SET support_access = false WHERE id = $1", other.organization_id)
    path, fields = f"/staff/people/{other.id}/impersonation", {"organization_id": str(other.organization_id)}
    for _ in range(MANY):
        assert (await client.get("/staff")).status_code == 200
    refused = await case.browser.submit(path, page="/staff", reason=REASON, **fields)
    assert "no organization that lets support in" in text_of(refused.text)
    entered = await client.submit(path, page="/staff", reason=REASON, **fields)
    assert entered.headers["location"] == "/dashboard"
    assert "you are in the account of" in text_of(await client.page("/dashboard"))
    assert (await client.submit("/account/name", page="/account", name="Mallory")).status_code == 403
    assert (await client.submit("/impersonation/stop", page="/dashboard")).headers["location"] == "/staff"

    # Loud: the gauge behind the alert, a mail to staff, the log.
    await measure(case.factory.resources)
    assert break_glass_open._value.get() >= 1
    [mail] = [one for one in await Post(mailbox).to(case.staff.email) if "emergency rights are open" in one.subject]
    assert WHY in mail.text

    # Ended by hand: staff rights, sessions and all.
    await as_system(case, actions.close_break_glass, case.owner.email)
    assert (await client.get("/staff")).status_code in (303, 404)
    row = await case.superuser.fetchrow(
        "SELECT is_staff, staff_until, emergency_until FROM users WHERE id = $1", case.owner.id
    )
    assert tuple(row or ()) == (False, None, None)

    grant = await grant_of(case)
    here = f"/staff/break-glass/{grant}"
    assert REASON not in text_of(await case.browser.page(here)), "what somebody typed is read for a reason"
    said = await case.press(case.browser, "/staff/reasons", page="/staff", next=here, reason="The review of Monday")
    assert said.status_code == 303
    shown = await case.browser.page(here)
    assert WHY in shown
    acts = f"/staff/break-glass-acts?grant_id={grant}"
    assert acts in shown
    assert REASON not in text_of(await case.browser.page(acts)), "nor what stands beside an act"
    said = await case.press(case.browser, "/staff/reasons", page="/staff", next=acts, reason="The review of Monday")
    assert said.headers["location"] == acts
    page = text_of(await case.browser.page(acts))
    for part in ("support.begin", str(other.organization_id), REASON, "accounts.change_name"):
        assert part in page, f"{part}: opening pages again and again hides no act"
    assert "path: /staff" in text_of(await case.browser.page(f"{acts}&pages=true"))
    whole = await case.browser.get(f"/staff/break-glass-acts/csv?grant_id={grant}")
    assert (whole.headers["content-type"], REASON in whole.text) == ("text/csv; charset=utf-8", True)
    seen, onward = 0, f"{acts}&limit=1"
    while onward:
        shown = await case.browser.page(onward)
        seen += "support.begin" in shown
        onward = html.unescape((NEXT.findall(shown) or [""])[0])
        onward = f"{onward}&limit=1" if onward else ""
    assert seen == 1, "nothing is cut off: the first act is reached page by page"
    rows = await case.superuser.fetch(
        "SELECT action, facts FROM audit_log WHERE actor_id = $1 AND facts @> '{\"break_glass\": true}'", case.owner.id
    )
    assert {"support.begin", "support.stop", "accounts.change_name", "staff.enter"} <= {row["action"] for row in rows}
    await measure(case.factory.resources)
    assert break_glass_unreviewed._value.get() >= 1
    listed = text_of(await case.browser.page("/staff/break-glass"))
    assert "to be reviewed" in listed
    short = await case.browser.submit(f"{here}/review", page=f"{here}/review", reason="fine")
    assert short.status_code == 422
    done = await case.browser.submit(f"{here}/review", reason="Needed, and nothing else was looked at.")
    assert done.status_code == 303
    shown = text_of(await case.browser.page(f"/staff/break-glass/{grant}"))
    assert "Needed, and nothing else was looked at." in shown
    twice = await case.browser.post(
        f"{here}/review", csrf=case.browser.csrf, reason="Needed, and nothing else was looked at."
    )
    assert "reviewed already" in text_of(twice.text)


async def test_the_clock_ends_it_whoever_is_away(case: Case, superuser: Any) -> None:
    opened = await open_for(case, minutes=10)
    client = await log_in(case, opened.code)
    assert (await client.get("/staff")).status_code == 200
    clock.advance(timedelta(minutes=9))
    assert (await client.get("/staff")).status_code == 200
    clock.advance(timedelta(seconds=61))
    assert (await client.get("/staff")).status_code == 404, "although no job has run and the row still says staff"
    assert await superuser.fetchval("SELECT is_staff FROM users WHERE id = $1", case.owner.id) is True
    assert (await client.get("/dashboard")).status_code == 200, "they are who they were"
    late = await case.stack.enter_async_context(await case.factory.client())
    entered = await late.submit("/login", email=case.owner.email, password=PASSWORD)
    assert entered.headers["location"] == "/dashboard", "its code is nothing any more, either"
    await as_system(case, actions.end_break_glass, await grant_of(case))
    assert await superuser.fetchval("SELECT is_staff FROM users WHERE id = $1", case.owner.id) is False


async def test_the_job_that_tidies_up_waits_from_the_beginning(
    case: Case, worker: RunningWorker, superuser: Any
) -> None:
    await open_for(case, minutes=30)
    grant = await grant_of(case)
    for _ in range(600):
        wait = await superuser.fetchval(
            "SELECT execute_after - created FROM pgqueuer WHERE entrypoint = 'support.end_rights'"
            " AND convert_from(payload, 'UTF8') LIKE '%' || $1 || '%'",
            str(grant),
        )
        if wait is not None:
            break
        await asyncio.sleep(0.05)
    assert timedelta(minutes=29) < wait < timedelta(minutes=31)


async def test_staff_keep_what_they_are_and_nobody_reviews_themselves(case: Case, superuser: Any) -> None:
    opened: Opened = await as_system(case, actions.open_break_glass, case.staff.email, WHY, 60)
    assert opened.code
    grant = await superuser.fetchval("SELECT id FROM break_glass_grants WHERE user_id = $1", case.staff.id)
    browser = await case.stack.enter_async_context(await case.factory.client(case.staff, "password", "totp"))
    note = "I looked at what I did myself."
    for after in (None, actions.close_break_glass):
        if after is not None:
            await as_system(case, after, case.staff.email)
            browser = await case.stack.enter_async_context(await case.factory.client(case.staff, "password", "totp"))
        refused = await browser.post(f"/staff/break-glass/{grant}/review", csrf=browser.csrf, reason=note)
        assert refused.status_code == 422
        said = text_of(refused.text)
        assert "Nobody reviews what they did themselves" in said if after else "emergency rights yourself" in said
        assert await superuser.fetchval("SELECT reviewed_at FROM break_glass_grants WHERE id = $1", grant) is None
    with pytest.raises(Forbidden, match="did themselves"):
        await as_system(case, actions.record_review, grant, case.staff.email, note)
    with pytest.raises(Forbidden, match="Only staff"):
        await as_system(case, actions.record_review, grant, case.owner.email, note)
    with pytest.raises(asyncpg.CheckViolationError, match="four_eyes"):
        await superuser.execute("UPDATE break_glass_grants SET reviewed_by = user_id WHERE id = $1", grant)
    row = await superuser.fetchrow("SELECT is_staff, emergency_until FROM users WHERE id = $1", case.staff.id)
    assert tuple(row) == (True, None)


UNREVIEWED = "SELECT reviewed_at IS NULL FROM break_glass_grants WHERE id = $1"


async def test_a_review_from_a_shell_waits_for_the_colleague(
    case: Case, superuser: Any, worker: RunningWorker, mailbox: MailSink
) -> None:
    """Whoever has a shell gives rights, uses them and signs for a colleague: that counts once the colleague says so."""
    colleague = await case.factory.person(staff=True, password=PASSWORD)
    await open_for(case)
    grant, words = await grant_of(case), "Looked at from the shell."
    with pytest.raises(Conflict, match="still open"):
        await as_system(case, actions.record_review, grant, colleague.email, words)
    await as_system(case, actions.close_break_glass, case.owner.email)
    with pytest.raises(Invalid, match="what they found"):
        await as_system(case, actions.record_review, grant, colleague.email, "fine")
    for reviewer in (case.staff, colleague):
        await as_system(case, actions.record_review, grant, reviewer.email, words)  # a wrong name is put right

    name = await superuser.fetchval("SELECT name FROM users WHERE id = $1", colleague.id)
    for told in (colleague, case.staff):
        wanted = f"noted that {name} reviewed"
        for _ in range(600):
            mails = await Post(mailbox).to(told.email, about="noted from a shell")
            said = " ".join(" ".join(mail.text for mail in mails).split())
            if wanted in said:
                break
            await asyncio.sleep(0.05)
        for part in (wanted, words, f"/staff/break-glass/{grant}", "does not count yet"):
            assert part in said, f"the named colleague and the others hear of it: {part}"

    assert await superuser.fetchval(UNREVIEWED, grant), "a name that a shell has written is no review"
    await measure(case.factory.resources)
    assert break_glass_unreviewed._value.get() >= 1, "the alert stays"
    here = f"/staff/break-glass/{grant}"
    assert "to be confirmed" in text_of(await case.browser.page("/staff/break-glass"))
    shown = text_of(await case.browser.page(here))
    assert "Noted from a shell, not confirmed" in shown
    assert words not in shown, "words are read for a reason"
    with pytest.raises(asyncpg.CheckViolationError, match="confirmed"):
        await superuser.execute("UPDATE break_glass_grants SET reviewed_at = recorded_at WHERE id = $1", grant)

    mine = "I looked at it and said so."
    assert actions.review_break_glass.rule.step_up, "a fresh proof is asked for"  # type: ignore[attr-defined]
    browser = await case.stack.enter_async_context(await case.factory.client(colleague, "password", "totp"))
    assert (await browser.submit(f"{here}/review", reason=mine)).status_code == 303
    row = await superuser.fetchrow("SELECT reviewed_by, review FROM break_glass_grants WHERE id = $1", grant)
    assert tuple(row) == (colleague.id, mine)
    assert not await superuser.fetchval(UNREVIEWED, grant)
    facts = await superuser.fetchval(
        "SELECT facts FROM audit_log WHERE actor_id = $1 AND action = 'support.review_break_glass'", colleague.id
    )
    assert '"confirmed": true' in facts
    assert "Noted from a shell, not confirmed" not in await case.browser.page(here)
    with pytest.raises(Conflict, match="reviewed already"):
        await as_system(case, actions.record_review, grant, colleague.email, words)


@pytest.mark.parametrize(
    ("email", "reason", "minutes", "kind", "why"),
    [
        ("nobody@example.com", WHY, 60, NotFound, "no account"),
        ("", "short", 60, Invalid, "Say why"),
        ("", WHY, 0, Invalid, "too long or too short"),
        ("", WHY, 61, Invalid, "too long or too short"),
        ("unconfirmed", WHY, 60, Conflict, "not confirmed"),
        ("without password", WHY, 60, Conflict, "no password"),
        ("locked", WHY, 60, Conflict, "is locked"),
        ("twice", WHY, 60, Conflict, "already"),
    ],
)
async def test_what_does_not_open(
    case: Case, email: str, reason: str, minutes: int, kind: type[ServiceError], why: str
) -> None:
    if email == "unconfirmed":
        email = (await case.factory.person(verified=False, password=PASSWORD)).email
    elif email == "locked":
        person = await case.factory.person(password=PASSWORD)
        await case.superuser.execute("UPDATE users SET locked_at = now() WHERE id = $1", person.id)
        email = person.email
    elif email == "without password":
        email = (await case.factory.person()).email
    elif email == "twice":
        await open_for(case)
        email = ""
    with pytest.raises(kind, match=why):
        await as_system(case, actions.open_break_glass, email or case.owner.email, reason, minutes)


async def test_only_the_clock_stands_between_the_row_and_the_panel(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """It bites: with the grant's proof of a second factor removed, an ordinary password session would be let in."""
    await open_for(case)
    client = await case.stack.enter_async_context(await case.factory.client(case.owner, "password"))
    assert (await client.get("/staff")).status_code == 403
    monkeypatch.setattr(break_glass, "proves", lambda _: True)
    assert (await client.get("/staff")).status_code == 200
