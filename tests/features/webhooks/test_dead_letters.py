"""Staff send again what a customer's endpoint did not take; wherever it is, and nothing that nobody expects."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg
import orjson

from infra.sandbox.receiver import ReceiverKnobs
from service.core import clock
from service.core.settings import Settings
from service.features.webhooks.models import SCHEDULE
from service.guardrails.permissions import Role
from tests.features.webhooks.conftest import Post

PAGE = "/staff/dead-letters/webhooks"


async def give_up(post: Post, delivery: Any) -> None:
    """The endpoint answers 500 to the last of its attempts."""
    await post.superuser.execute("UPDATE webhook_deliveries SET tries = $2 WHERE id = $1", delivery, len(SCHEDULE))
    post.receiver.knobs = ReceiverKnobs(status=500)
    assert await post.send() == 1
    assert (await post.row("webhook_deliveries", delivery))["state"] == "failed"
    post.receiver.knobs = ReceiverKnobs()


async def test_staff_send_again_what_a_failing_endpoint_did_not_take(post: Post) -> None:
    endpoint = await post.endpoint()
    kept = orjson.dumps({"type": "indicator.created", "data": "for the customer alone"}).decode()
    delivery = await post.message(endpoint, payload=kept)
    await give_up(post, delivery)
    staff = await post.factory.person(Role.OWNER, staff=True)
    again = {"page": f"{PAGE}/replay", "q": str(delivery), "reason": "They asked for it"}
    async with await post.factory.client(staff, "password", "totp") as client:
        page = await client.page(f"{PAGE}?q=indicator.created")
        assert str(delivery) in page
        assert "HTTP 500" in page
        assert str(post.organization) in page
        assert "for the customer alone" not in page
        await post.superuser.execute("UPDATE webhook_endpoints SET state = 'paused' WHERE id = $1", endpoint)
        refused = await client.submit(f"{PAGE}/replay", **again)
        assert refused.status_code == 422
        assert "paused, switched off or deleted" in refused.text
        await post.superuser.execute("UPDATE webhook_endpoints SET state = 'active' WHERE id = $1", endpoint)
        assert (await client.submit(f"{PAGE}/replay", **again)).status_code == 303
        assert (await client.submit(f"{PAGE}/discard", **again)).status_code == 404
    clock.advance(timedelta(minutes=10))  # an endpoint that failed rests
    assert await post.send() == 1
    assert (await post.row("webhook_deliveries", delivery))["state"] == "delivered"
    row = await post.superuser.fetchrow(
        "SELECT * FROM audit_log WHERE action = 'webhooks.replay_dead' AND actor_id = $1", staff.id
    )
    assert row is not None
    assert (row["reason"], row["organization_id"]) == ("They asked for it", None)


async def test_given_up_messages_of_others_are_shown_to_staff_alone(post: Post, settings: Settings) -> None:
    """The policy, not the page: a member of another organization sees none, and staff see no message under way."""
    endpoint = await post.endpoint()
    dead, waiting = await post.message(endpoint, state="failed"), await post.message(endpoint)
    stranger, staff = await post.factory.person(Role.OWNER), await post.factory.person(staff=True)
    application = await asyncpg.connect(settings.database_url.get_secret_value())
    seen = {}
    for person in (stranger, staff):
        async with application.transaction():
            await application.execute("SELECT set_config('app.user', $1, true)", str(person.id))
            rows = await application.fetch(
                "SELECT id FROM webhook_deliveries WHERE id = ANY($1::uuid[])", [dead, waiting]
            )
            seen[person.id] = [row["id"] for row in rows]
    await application.close()
    assert seen == {stranger.id: [], staff.id: [dead]}
