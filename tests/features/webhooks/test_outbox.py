"""What is told: exactly what happened, in the transaction in which it happened, in its order where that is promised."""

from __future__ import annotations

import asyncio
import json

import pytest

from service.core.context import Actor, ActorKind, Caller, Context
from service.core.ids import new_id
from service.features.indicators import actions as indicators
from service.features.indicators.schemas import IndicatorCreate
from service.features.webhooks.jobs.events import FEEDS
from service.features.webhooks.schemas import EventType
from service.guardrails.permissions import Role
from tests.features.webhooks.conftest import Post


def test_every_event_type_is_told_by_some_action() -> None:
    assert {feed.type for feed in FEEDS} == set(EventType)


async def test_a_change_over_http_is_told_once_to_each_endpoint_that_asked(post: Post) -> None:
    all_of_it = await post.endpoint()
    some_of_it = await post.endpoint(event_types=["indicator.archived"])
    paused, off = await post.endpoint(state="paused"), await post.endpoint(state="disabled")
    made = await post.admin.api("POST", "/indicators", {"name": "Sign-ups"})
    identifier = made.json()["id"]
    at = "2026-01-01T00:00:00Z"
    await post.admin.api("POST", f"/indicators/{identifier}/readings", {"at": at, "value": 1})
    await post.admin.api("PUT", f"/indicators/{identifier}/readings/{at}", {"value": 2})
    for expected in (201, 409):  # what is refused is told to nobody
        assert (await post.admin.api("POST", f"/indicators/{identifier}/archival")).status_code == expected
    await post.admin.api("DELETE", f"/indicators/{identifier}")
    told = [one["type"] for one in await post.deliveries(all_of_it)]
    assert told == [
        "indicator.created", "readings.added", "readings.corrected", "indicator.archived", "indicator.deleted"
    ]  # fmt: skip
    assert [one["type"] for one in await post.deliveries(paused)] == told
    [archived] = await post.deliveries(some_of_it)
    assert await post.deliveries(off) == []
    payload = json.loads(archived["body"])
    assert set(payload) == {"type", "timestamp", "data"}
    assert payload["data"] == {"organization_id": str(post.organization), "indicator_id": identifier}
    same = [one for one in await post.deliveries(all_of_it) if one["type"] == "indicator.archived"]
    assert same[0]["event_id"] == archived["event_id"]


async def test_readings_of_some_seconds_are_one_message_until_it_is_sent(post: Post) -> None:
    endpoint, indicator = await post.endpoint(), await post.factory.indicator(post.organization)

    async def add(*hours: int) -> None:
        given = {"readings": [{"at": f"2026-01-01T{hour:02}:00:00Z", "value": 1} for hour in hours]}
        answer = await post.admin.api("POST", f"/indicators/{indicator}/readings/batch", given)
        assert answer.status_code == 201, answer.text

    await add(1, 2)
    await add(2, 3)
    await add(3)  # nothing new, nothing to tell
    [told] = await post.deliveries(endpoint)
    assert json.loads(told["body"])["data"]["added"] == 3
    await post.superuser.execute("UPDATE webhook_deliveries SET next_attempt_at = created_at WHERE id = $1", told["id"])
    post.receiver.knobs.status = 500
    assert await post.send() == 1
    await add(4)
    first, second = await post.deliveries(endpoint)
    assert json.loads(first["body"])["data"]["added"] == 3, "what was sent keeps its bytes"
    assert json.loads(second["body"])["data"]["added"] == 1


async def test_what_is_rolled_back_is_told_to_nobody(post: Post) -> None:
    """Beside the transaction, in a job of its own or by a call: there it would be out before anybody knows."""
    endpoint = await post.endpoint()
    person = await post.factory.person(Role.MEMBER, post.organization)
    with pytest.raises(ZeroDivisionError):
        async with post.resources.database.unit_of_work(tenant=post.organization, user=person.id) as work:
            actor = Actor(ActorKind.USER, person.id)
            ctx = Context(work, post.resources, actor, Caller("test"), post.organization, Role.MEMBER)
            await indicators.create_indicator(ctx, IndicatorCreate(name="Never"))
            raise ZeroDivisionError
    assert await post.deliveries(endpoint) == []


async def test_two_changes_at_once_are_numbered_as_they_commit_for_an_endpoint_that_keeps_order(post: Post) -> None:
    endpoint = await post.endpoint(ordered=True)
    person = await post.factory.person(Role.MEMBER, post.organization)
    first_wrote, may_commit = asyncio.Event(), asyncio.Event()
    committed: list[str] = []

    async def change(name: str, *, waits: bool) -> None:
        async with post.resources.database.unit_of_work(tenant=post.organization, user=person.id) as work:
            actor = Actor(ActorKind.USER, person.id)
            ctx = Context(work, post.resources, actor, Caller(str(new_id())), post.organization, Role.MEMBER)
            made = await indicators.create_indicator(ctx, IndicatorCreate(name=name))
            first_wrote.set()
            if waits:
                await may_commit.wait()
        committed.append(str(made.id))

    slow = asyncio.create_task(change("Slow", waits=True))
    await first_wrote.wait()
    quick = asyncio.create_task(change("Quick", waits=False))
    done, _ = await asyncio.wait({quick}, timeout=0.3)
    assert not done, "it takes its turn behind the one that wrote first"
    may_commit.set()
    await asyncio.gather(slow, quick)
    told = [json.loads(one["body"])["data"]["indicator_id"] for one in await post.deliveries(endpoint)]
    assert told == committed
