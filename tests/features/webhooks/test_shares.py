"""One customer's trouble stays that customer's: a secret nobody can read, many endpoints, a deleted organization."""

from __future__ import annotations

import asyncio
from copy import copy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from service.core import clock
from service.core.context import ANONYMOUS, Caller, Context
from service.core.database import Database
from service.core.errors import Unavailable
from service.core.ids import new_id
from service.core.settings import Settings
from service.features.webhooks.actions import MOST_ENDPOINTS
from service.features.webhooks.flows import deliver, metrics
from service.features.webhooks.flows.address import insist_on_reachable
from service.features.webhooks.flows.claim import PER_ENDPOINT, PER_ORGANIZATION
from service.features.webhooks.jobs.loops import measure
from service.integrations.webhooks import AT_ONCE, WebhookSender
from tests.features.webhooks.conftest import Post

HOUR = timedelta(hours=1)


async def test_a_secret_that_cannot_be_read_stops_its_own_endpoint_only(post: Post) -> None:
    broken = await post.endpoint(secret=b"\0\1 sealed with a key that was thrown away")
    lost = await post.message(broken, next_attempt_at=clock.now() - HOUR)
    other = await post.message(await post.endpoint())
    assert await post.send() == 2
    assert (await post.row("webhook_deliveries", other))["state"] == "delivered"
    assert (await post.row("webhook_deliveries", lost))["state"] == "waiting"
    [tried] = await post.attempts(lost)
    assert "Rotate the secret" in tried["error"]
    assert (await post.row("webhook_endpoints", broken))["failures"] == 1


async def test_an_organization_has_its_share_however_many_endpoints_it_has(post: Post) -> None:
    """Twenty endpoints that take their time would be forty attempts at once, and everybody else would wait."""
    for n in range(MOST_ENDPOINTS):
        endpoint = await post.endpoint(f"{post.receiver.url}?n={n}", failures=n % 2)
        for _ in range(PER_ENDPOINT):
            await post.message(endpoint, next_attempt_at=clock.now() - HOUR)
    held = await post.message(endpoint, state="sending", lease_until=clock.now() + HOUR)
    other = await post.factory.organization()
    late = await post.message(await post.endpoint(organization_id=other), organization_id=other)
    assert await post.send(room=AT_ONCE) == PER_ORGANIZATION - 1 + 1, "one is on its way already"
    assert (await post.row("webhook_deliveries", late))["state"] == "delivered"
    assert (await post.row("webhook_deliveries", held))["state"] == "sending"


async def test_who_answers_slowly_is_treated_as_who_fails_until_it_is_quick_again(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = await post.endpoint()
    messages = [await post.message(endpoint) for _ in range(2 * PER_ENDPOINT)]
    monkeypatch.setattr(deliver, "SLOW_MS", -1)
    assert await post.send(room=1) == 1
    monkeypatch.setattr(deliver, "SLOW_MS", 1_000_000)
    assert await post.send(room_for_ill=0) == 0, "the room of those that answer at once is not for it"
    assert await post.send() == 1, "one at once, as for one that failed"
    assert await post.send() == PER_ENDPOINT
    assert {(await post.row("webhook_deliveries", each))["state"] for each in messages} == {"delivered"}


async def test_each_organization_looks_up_one_address_at_a_time(post: Post) -> None:
    """A name server of one's own that never answers would be a way to let nobody else save an endpoint."""
    never, looked = asyncio.Event(), list[str]()

    class Hanging:
        async def look_up(self, url: str) -> None:
            looked.append(url)
            if "slow" in url:
                await never.wait()

    usual = post.resources.get(WebhookSender)
    post.resources.provide(WebhookSender, Hanging())
    no_work: Any = None
    ctx = Context(no_work, post.resources, ANONYMOUS, Caller("test"), organization_id=post.organization)
    other = replace(ctx, organization_id=new_id())
    waiting = asyncio.create_task(insist_on_reachable(ctx, "https://slow.example"))
    while not looked:
        await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await insist_on_reachable(ctx, "https://second.example")
    await insist_on_reachable(other, "https://other.example")
    never.set()
    await waiting
    await insist_on_reachable(ctx, "https://second.example")
    assert looked == ["https://slow.example", "https://other.example", "https://second.example"]
    post.resources.provide(WebhookSender, usual)


async def test_what_is_late_is_measured_by_endpoints_that_answer(post: Post, maintenance: Database) -> None:
    resources = copy(post.resources)
    resources.maintenance = maintenance
    await post.message(await post.endpoint(), next_attempt_at=clock.now() - HOUR)
    ill = await post.endpoint(slow=True)
    for _ in range(3):
        await post.message(ill, next_attempt_at=clock.now() - 9 * HOUR)
    await measure(resources)
    assert metrics.waiting._value.get() == 2
    assert 3_600 <= metrics.overdue._value.get() < 2 * 3_600


async def test_nothing_is_sent_for_a_deleted_organization(post: Post) -> None:
    delivery = await post.message(await post.endpoint())
    await post.superuser.execute("UPDATE organizations SET deleted_at = now() WHERE id = $1", post.organization)
    assert await post.send() == 0
    await post.superuser.execute("UPDATE organizations SET deleted_at = NULL WHERE id = $1", post.organization)
    assert await post.send() == 1
    assert (await post.row("webhook_deliveries", delivery))["state"] == "delivered"


async def test_what_was_skipped_is_replayed_beside_a_newer_one_of_the_same_bundle(post: Post) -> None:
    endpoint = await post.endpoint()
    first = await post.message(endpoint, type="readings.added", bundle="readings.added:one")
    answer = await post.admin.submit(f"/webhook-deliveries/{first}/skip", page=f"/webhook-deliveries/{first}")
    assert answer.status_code == 303, answer.text
    await post.message(endpoint, type="readings.added", bundle="readings.added:one")
    answer = await post.admin.submit(f"/webhook-deliveries/{first}/replay", page=f"/webhook-deliveries/{first}")
    assert answer.status_code == 303, answer.text
    assert (await post.row("webhook_deliveries", first))["state"] == "waiting"


async def test_the_bin_is_no_way_around_the_most_endpoints(post: Post) -> None:
    first = await post.endpoint()
    await post.admin.submit(f"/webhook-endpoints/{first}/delete", page=f"/webhook-endpoints/{first}")
    for _ in range(MOST_ENDPOINTS):
        last = await post.endpoint()
    bin_page = "/webhook-endpoints?deleted=true"
    answer = await post.admin.submit(f"/webhook-endpoints/{first}/restore", page=bin_page)
    assert answer.headers["location"] == bin_page, "the endpoint's own page would be a 404"
    assert f"at most {MOST_ENDPOINTS} endpoints" in await post.admin.page(bin_page)
    assert (await post.row("webhook_endpoints", first))["deleted_at"] is not None
    await post.superuser.execute("DELETE FROM webhook_endpoints WHERE id = $1", last)
    await post.admin.submit(f"/webhook-endpoints/{first}/restore", page=bin_page)
    assert (await post.row("webhook_endpoints", first))["deleted_at"] is None


async def test_what_arrived_is_written_down_although_no_connection_was_free_at_first(
    post: Post, settings: Settings
) -> None:
    delivery = await post.message(await post.endpoint())
    hasty = settings.model_copy(update={"database_pool_timeout_seconds": 0.1})
    small = Database(settings.database_url.get_secret_value(), hasty, name="small", size=1)
    post.resources = copy(post.resources)
    post.resources.database = small
    async with small.connection():
        sending = asyncio.create_task(post.send())
        while not post.receiver.arrivals:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
    await sending
    await small.dispose()
    assert (await post.row("webhook_deliveries", delivery))["state"] == "delivered"
    assert len(post.receiver.arrivals) == 1
