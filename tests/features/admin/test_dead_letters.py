"""Dead letters: a job that really dies is shown without its content, found, tried again, discarded; with a trail."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from service.core import clock
from service.core.ids import new_id
from service.guardrails.jobs import JOBS
from service.guardrails.permissions import Role
from service.web.sheet import BOM
from tests.support.client import Client
from tests.support.factories import Factory, Person
from tests.support.servers import RunningWorker

PAGE = "/staff/dead-letters"
REPLAY, DISCARD = f"{PAGE}/jobs/replay", f"{PAGE}/jobs/discard"


async def act(client: Client, path: str, **fields: str) -> httpx.Response:
    return await client.post(path, csrf=client.csrf, **fields)


async def plant(superuser: asyncpg.Connection[Any], name: str, status: str = "failed", attempts: int = 3) -> int:
    found: int = await superuser.fetchval(
        "INSERT INTO pgqueuer (priority, status, entrypoint, payload, heartbeat, created, updated, attempts, headers)"
        " VALUES (0, $2::pgqueuer_status, $1, '{\"note\": \"not for staff\"}', now(), now(), now(), $3,"
        " jsonb_build_object('error', 'MailFailed')) RETURNING id",
        name, status, attempts,
    )  # fmt: skip
    return found


async def row_of(superuser: asyncpg.Connection[Any], job: int) -> asyncpg.Record | None:
    return await superuser.fetchrow("SELECT status::text, attempts FROM pgqueuer WHERE id = $1", job)


async def test_a_job_that_dies_is_found_and_tried_again(
    staff: Client, staff_person: Person, superuser: asyncpg.Connection[Any], worker: RunningWorker
) -> None:
    """What it carries cannot be read, so its last attempt fails: the worker holds it."""
    name = next(one.name for one in JOBS.values() if one.schedule is None and one.name.startswith("accounts."))
    job = await plant(superuser, name, "queued", JOBS[name].retry.attempts - 1)
    for _ in range(600):
        row = await row_of(superuser, job)
        assert row is not None
        if row["status"] == "failed":
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("the worker never gave the job up")
    assert f'href="{PAGE}/jobs"' in await staff.page("/staff"), "the home says that something waits"
    assert f'href="{PAGE}/jobs"' in await staff.page(PAGE)
    for sought in ("", f"?q={name}", f"?q={job}"):
        page = await staff.page(f"{PAGE}/jobs{sought}")
        assert f"?q={job}" in page
        assert "KeyError" in page or "ValidationError" in page, "what went wrong, in our word"
        assert "not for staff" not in page
    assert f"?q={job}" not in await staff.page(f"{PAGE}/jobs?q=nobody.at_all")
    assert (await act(staff, REPLAY, q=str(job), reason="")).status_code == 422
    again = await act(staff, REPLAY, q=str(job), reason="The template is mended")
    assert again.status_code == 303, again.text
    log = await superuser.fetchrow(
        "SELECT * FROM audit_log WHERE action = 'admin.replay_jobs' AND actor_id = $1", staff_person.id
    )
    assert log is not None
    assert (log["reason"], log["organization_id"]) == ("The template is mended", None)
    assert name in log["facts"]
    await superuser.execute("DELETE FROM pgqueuer WHERE id = $1", job)


async def test_a_search_is_what_a_replay_means(staff: Client, superuser: asyncpg.Connection[Any]) -> None:
    mine, other = f"probe.a{new_id().hex[:8]}", f"probe.b{new_id().hex[:8]}"
    jobs = [await plant(superuser, mine), await plant(superuser, mine), await plant(superuser, other)]
    here = f"{REPLAY}?q={mine}"
    assert here in await staff.page(f"{PAGE}/jobs?q={mine}")
    assert f'value="{mine}"' in await staff.page(here), "what is pressed means what the search shows"
    assert (await act(staff, REPLAY, q=mine, reason="Only these")).status_code == 303
    rows = [await row_of(superuser, job) for job in jobs]
    assert [row and row["status"] for row in rows] == ["queued", "queued", "failed"]
    assert rows[0] is not None
    assert rows[0]["attempts"] == 0
    late = await act(staff, REPLAY, q=mine, reason="Once more, please")
    assert late.status_code == 422
    assert "None of these is a dead letter any more" in late.text
    whole = await staff.get(f"{PAGE}/jobs/csv?q={other}")
    assert [line.split(",")[0] for line in whole.text.removeprefix(BOM).splitlines()] == ['"Id"', f'"{jobs[2]}"'], (
        "what the search shows"
    )
    assert "not for staff" not in whole.text
    assert (await act(staff, DISCARD, q=str(jobs[2]), reason="Nobody needs it")).status_code == 303
    assert await row_of(superuser, jobs[2]) is None
    await superuser.execute("DELETE FROM pgqueuer WHERE id = ANY($1::bigint[])", jobs)


async def test_pages_follow_each_other(staff: Client, superuser: asyncpg.Connection[Any]) -> None:
    name = f"probe.p{new_id().hex[:8]}"
    jobs = [await plant(superuser, name) for _ in range(3)]
    here = f"{PAGE}/jobs?q={name}&limit=2"
    first = await staff.page(here)
    older = next(part for part in first.split('"') if "cursor=" in part).replace("&amp;", "&")
    second = await staff.page(f"{older}&limit=2")
    shown = [[job for job in jobs if f"?q={job}" in page] for page in (first, second)]
    assert [len(some) for some in shown] == [2, 1]
    assert sorted(shown[0] + shown[1]) == jobs
    await superuser.execute("DELETE FROM pgqueuer WHERE id = ANY($1::bigint[])", jobs)


@pytest.mark.parametrize("role", [Role.OWNER, Role.VIEWER])
async def test_nobody_else_gets_in(factory: Factory, role: Role) -> None:
    async with await factory.client(await factory.person(role)) as client:
        assert (await client.get(PAGE)).status_code in (403, 404)
        assert (await client.get(f"{PAGE}/jobs")).status_code in (403, 404)
        assert (await act(client, DISCARD, reason="All that are mine")).status_code in (403, 404)


async def test_every_act_asks_for_a_fresh_proof_and_what_is_not_there_is_not_found(
    staff: Client, superuser: asyncpg.Connection[Any]
) -> None:
    job = await plant(superuser, "probe.old_session")
    for path in (f"{PAGE}/letters/replay", f"{PAGE}/jobs/{job}"):
        assert (await act(staff, path, reason="Not there at all")).status_code in (404, 405)
    huge = await staff.get(f"{PAGE}/jobs?q={2**70}")
    assert huge.status_code == 200, "a number beyond the column's range is a name that nobody has"
    clock.advance(timedelta(minutes=11))
    answer = await act(staff, DISCARD, q=str(job), reason="An old session")
    clock.reset()
    assert answer.headers["location"].startswith("/confirm")
    assert await row_of(superuser, job) is not None
    await superuser.execute("DELETE FROM pgqueuer WHERE id = $1", job)


async def test_every_feature_that_gives_up_has_its_kind(staff: Client) -> None:
    page = await staff.page(PAGE)
    kinds = ("jobs", "stripe-customers", "stripe-messages", "webhooks", "mail-events")
    assert [kind for kind in kinds if f'href="{PAGE}/{kind}"' not in page] == []
    for kind in kinds:
        assert (await staff.get(f"{PAGE}/{kind}")).status_code == 200
        nothing = await act(staff, f"{PAGE}/{kind}/replay", q="no_such_name", reason="There are none")
        assert nothing.status_code in (303, 422), (kind, nothing.status_code, nothing.text[:500])
