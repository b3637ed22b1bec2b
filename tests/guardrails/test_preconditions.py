"""A change that says which version it was made from is refused when there is a newer one, whoever comes first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace

import httpx
import pytest
from fastapi import Depends, FastAPI
from starlette.requests import Request

from service.core import clock
from service.guardrails import preconditions
from service.guardrails.permissions import Role
from service.guardrails.preconditions import IfMatch, tag
from tests.guardrails.instances import comes_true
from tests.support.client import Client
from tests.support.factories import Factory
from tests.support.locks import WAITING


@pytest.fixture
async def program(factory: Factory) -> AsyncIterator[Client]:
    async with await factory.client(await factory.person(Role.ADMIN)) as client:
        made = await client.api("POST", "/indicators", {"name": "Shared", "description": "Before"})
        client.path = f"/indicators/{made.json()['id']}"  # type: ignore[attr-defined]
        yield client


def path_of(program: Client) -> str:
    return str(program.path)  # type: ignore[attr-defined]


async def change(program: Client, description: str, **headers: str) -> httpx.Response:
    return await program.api("PATCH", path_of(program), {"description": description}, **headers)


# It works


async def test_the_version_that_was_read_may_be_changed_and_the_answer_names_the_next(program: Client) -> None:
    read = await program.api("GET", path_of(program))
    assert not read.headers["etag"].startswith("W/")
    changed = await change(program, "After", **{"if-match": f'"0", {read.headers["etag"]}'})
    assert changed.status_code == 200
    assert changed.headers["etag"] != read.headers["etag"]
    again = await program.api("GET", path_of(program))
    assert (again.headers["etag"], again.json()) == (changed.headers["etag"], changed.json())
    for known in ({}, {"if-match": "*"}):
        assert (await change(program, "Whatever it was", **known)).status_code == 200


async def test_a_reading_has_a_version_of_its_own(program: Client) -> None:
    at = "2026-11-20T10:00:00Z"
    await program.api("POST", f"{path_of(program)}/readings", {"at": at, "value": 1})
    reading = f"{path_of(program)}/readings/{at}"
    first = (await program.api("GET", reading)).headers["etag"]
    done = await program.api("PUT", reading, {"value": 2}, **{"if-match": first})
    assert (done.status_code, done.json()["value"]) == (200, 2)
    shown = await program.api("GET", reading)
    assert (shown.json(), shown.headers["etag"]) == (done.json(), done.headers["etag"])
    stale = await program.api("PUT", reading, {"value": 3}, **{"if-match": first})
    assert stale.status_code == 412
    assert (await program.api("GET", path_of(program))).json()["latest_value"] == 2


# The attack fails


async def test_a_stale_version_changes_nothing_and_says_what_to_do(program: Client) -> None:
    stale = (await program.api("GET", path_of(program))).headers["etag"]
    await change(program, "Somebody else's")
    for known in (stale, f"W/{stale}", '"made-up"'):
        refused = await change(program, "Mine", **{"if-match": known})
        assert (refused.status_code, refused.json()["code"]) == (412, "precondition-failed")
        assert "Fetch the latest version" in refused.json()["mend"]
    weak = (await program.api("GET", path_of(program))).headers["etag"]
    assert (await change(program, "Mine", **{"if-match": f"W/{weak}"})).status_code == 412, "compared strongly"
    assert (await program.api("GET", path_of(program))).json()["description"] == "Somebody else's"


async def test_what_somebody_has_changed_is_not_deleted_unseen(program: Client) -> None:
    stale = (await program.api("GET", path_of(program))).headers["etag"]
    changed = await change(program, "Worth keeping")
    assert (await program.api("DELETE", path_of(program), **{"if-match": stale})).status_code == 412
    assert (await program.api("GET", path_of(program))).status_code == 200
    assert (await program.api("DELETE", path_of(program), **{"if-match": changed.headers["etag"]})).status_code == 204


async def both_at_once(program: Client, factory: Factory) -> tuple[list[int], str]:
    """Two that have read the same version send their changes, and both wait for the row before it is let go."""
    known = {"if-match": (await program.api("GET", path_of(program))).headers["etag"]}
    superuser = factory.superuser

    async def waiting() -> bool:
        return int(await superuser.fetchval(WAITING)) >= 2

    async with superuser.transaction():
        await superuser.fetch("SELECT FROM indicators WHERE id = $1 FOR UPDATE", path_of(program).split("/")[-1])
        sending = [asyncio.create_task(change(program, each, **known)) for each in ("First", "Second")]
        await comes_true(waiting)
    answers = await asyncio.gather(*sending)
    now = (await program.api("GET", path_of(program))).json()["description"]
    won = [each for each, answer in zip(("First", "Second"), answers, strict=True) if answer.status_code == 200]
    assert now in won
    return sorted(answer.status_code for answer in answers), now


async def test_of_two_at_once_one_is_refused(program: Client, factory: Factory) -> None:
    assert (await both_at_once(program, factory))[0] == [200, 412]


async def test_it_bites_checked_before_the_lock_both_are_let_through(
    program: Client, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preconditions, "insist", lambda ctx, moment: setattr(ctx, "if_match", ()))
    assert (await both_at_once(program, factory))[0] == [200, 200]


@pytest.mark.parametrize("sent", ["abc", '"open', '"a" "b"', '"a", b', 'w/"a"', "\"a'"])
async def test_what_is_no_tag_is_refused(program: Client, sent: str) -> None:
    refused = await change(program, "Never", **{"if-match": sent})
    assert (refused.status_code, "quotes included" in refused.json()["mend"]) == (400, True)


def before(request: Request) -> None:
    request.scope.setdefault("state", {})["context"] = SimpleNamespace(if_match=())


async def test_a_header_that_nobody_looks_at_is_a_fault() -> None:
    """Else the route would promise a check, in its description too, and make none."""
    app = FastAPI(dependencies=[Depends(before)])

    @app.put("/")
    async def forgets(unchanged: IfMatch) -> None: ...

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        assert (await http.put("/")).status_code == 200
        with pytest.raises(RuntimeError, match="never called"):
            await http.put("/", headers={"if-match": '"1"'})


def test_versions_differ_by_the_microsecond() -> None:
    now = clock.now()
    assert tag(now) == tag(now)
    assert tag(now) != tag(now + timedelta(microseconds=1))
