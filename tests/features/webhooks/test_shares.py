"""One customer's trouble stays that customer's: a secret nobody can read, many endpoints, a deleted organization."""

from __future__ import annotations

import asyncio
from copy import copy
from datetime import timedelta

from service.core import clock
from service.core.database import Database
from service.core.settings import Settings
from service.features.webhooks.actions import MOST_ENDPOINTS
from service.features.webhooks.flows.claim import PER_ENDPOINT, PER_ORGANIZATION
from service.integrations.webhooks import AT_ONCE
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
