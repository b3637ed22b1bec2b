"""How it is sent: signed, again and again, in order where promised, and never one customer's trouble another's."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from infra.sandbox.mail import MailSink
from infra.sandbox.ports import free_port
from service.core import clock
from service.core.database import Database
from service.features.webhooks.flows.claim import PER_ENDPOINT
from service.features.webhooks.flows.deliver import FOR_ILL
from service.features.webhooks.jobs.loops import forget
from service.features.webhooks.models import GIVE_UP_AFTER, OVERLAP, SCHEDULE
from service.integrations.webhooks import AT_ONCE, LONGEST_WAIT
from tests.features.webhooks.conftest import PATIENCE, Post
from tests.support.servers import RunningWorker


async def test_the_published_library_believes_us_and_nobody_else(post: Post) -> None:
    """Standard Webhooks, byte for byte: what any customer's library does with what we send."""
    endpoint = await post.endpoint()
    await post.message(endpoint)
    assert await post.send() == 1
    [arrived] = post.receiver.arrivals
    [secret] = await post.secrets_of(endpoint, clock.now())
    assert Webhook(secret).verify(arrived.body, arrived.headers) == json.loads(arrived.body)
    assert secret.startswith("whsec_")
    for wrong in (arrived.body + " ", arrived.body.replace("created", "deleted")):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(wrong, arrived.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(arrived.body, {**arrived.headers, "webhook-id": "msg_another"})
    sealed = (await post.row("webhook_endpoints", endpoint))["secret"]
    assert secret.encode() not in sealed, "at rest it is encrypted"


async def test_after_a_rotation_both_secrets_sign_for_a_day(post: Post, maintenance: Database) -> None:
    endpoint = await post.endpoint()
    [old] = await post.secrets_of(endpoint, clock.now())
    answer = await post.admin.submit(f"/webhook-endpoints/{endpoint}/rotate", page=f"/webhook-endpoints/{endpoint}")
    assert answer.status_code == 303
    new, still = await post.secrets_of(endpoint, clock.now())
    assert still == old != new
    await post.message(endpoint)
    await post.send()
    [arrived] = post.receiver.arrivals
    assert all(Webhook(each).verify(arrived.body, arrived.headers) for each in (new, old))
    assert await post.secrets_of(endpoint, clock.now() + OVERLAP) == [new]
    await forget(maintenance)
    assert await post.secrets_of(endpoint, clock.now()) == [new, old]
    clock.advance(OVERLAP)
    await forget(maintenance)
    row = await post.row("webhook_endpoints", endpoint)
    assert row["old_secret"] is None, "or it needs its encryption key for ever"
    assert row["old_secret_until"] is not None


async def test_a_failure_is_tried_again_for_days_with_the_same_id_and_bytes(post: Post) -> None:
    endpoint = await post.endpoint()
    delivery = await post.message(endpoint)
    post.receiver.knobs.status = 500
    began, waits = clock.now(), []
    for _ in range(len(SCHEDULE) + 1):
        # A success in between keeps the endpoint from being switched off before the message is given up.
        await post.superuser.execute("UPDATE webhook_endpoints SET failing_since = $1, resume_at = NULL", clock.now())
        assert await post.send() == 1
        due = (await post.row("webhook_deliveries", delivery))["next_attempt_at"]
        waits.append(due - clock.now())
        clock.advance(max(timedelta(), due - clock.now()))
    assert all(usual * 0.8 <= wait <= usual * 1.2 for usual, wait in zip(SCHEDULE, waits, strict=False))
    assert timedelta(days=1.5) < clock.now() - began < timedelta(days=4)
    assert len({(one.message_id, one.body) for one in post.receiver.arrivals}) == 1
    row = await post.row("webhook_deliveries", delivery)
    assert (row["state"], row["attempts"], row["last_status"]) == ("failed", len(SCHEDULE) + 1, 500)
    tried = await post.attempts(delivery)
    assert [one["number"] for one in tried] == list(range(1, len(SCHEDULE) + 2))
    assert tried[0]["response"] == "thank you"
    assert tried[0]["milliseconds"] >= 0


async def test_what_was_given_up_is_sent_again_one_or_a_range(post: Post) -> None:
    endpoint = await post.endpoint()
    old = await post.message(endpoint, state="failed", created_at=clock.now() - timedelta(days=2))
    one, other = [await post.message(endpoint, state="failed") for _ in range(2)]
    base = f"/webhook-endpoints/{endpoint}"
    await post.admin.submit(f"/webhook-deliveries/{one}/replay", page=f"/webhook-deliveries/{one}")
    assert (await post.row("webhook_deliveries", one))["state"] == "waiting"
    now = clock.now()
    days = {"since": f"{now - timedelta(days=1):%Y-%m-%dT%H:%M}", "until": f"{now + timedelta(hours=1):%Y-%m-%dT%H:%M}"}
    answer = await post.admin.submit(f"{base}/replay", page=base, **days)
    assert answer.status_code == 303, answer.text
    assert await post.send() == 2
    states = [(await post.row("webhook_deliveries", each))["state"] for each in (old, one, other)]
    assert states == ["failed", "delivered", "delivered"]


async def test_an_ordered_endpoint_gets_one_at_a_time_and_waits_for_the_first(post: Post) -> None:
    endpoint = await post.endpoint(ordered=True)
    messages = [await post.message(endpoint) for _ in range(3)]
    post.receiver.knobs.status = 503
    assert await post.send() == 1
    assert await post.send() == 0, "nothing overtakes the one that failed"
    post.receiver.knobs.status = 200
    clock.advance(timedelta(minutes=1))
    for _ in messages:
        assert await post.send() == 1
    ids = [(await post.row("webhook_deliveries", each))["event_id"] for each in messages]
    arrived = [one.message_id for one in reversed(post.receiver.arrivals)]
    assert arrived == [f"msg_{each.hex}" for each in (ids[0], *ids)]


@pytest.mark.parametrize(("asked", "least", "most"), [(120, 120, 160), (99_999_999, LONGEST_WAIT, LONGEST_WAIT + 1)])
async def test_a_server_that_asks_for_patience_gets_it_within_bounds(
    post: Post, asked: int, least: int, most: int
) -> None:
    endpoint = await post.endpoint()
    first, second = [await post.message(endpoint) for _ in range(2)]
    post.receiver.knobs.status, post.receiver.knobs.retry_after = 429, asked
    assert await post.send(room=1) == 1
    row = await post.row("webhook_endpoints", endpoint)
    assert least <= (row["resume_at"] - clock.now()).total_seconds() + 1 <= most + 1
    assert await post.send() == 0, "the second message waits as well"
    assert {(await post.row("webhook_deliveries", each))["attempts"] for each in (first, second)} == {0, 1}


@pytest.mark.parametrize(("status", "age", "reason"), [(410, timedelta(), "gone"), (500, GIVE_UP_AFTER, "failing")])
async def test_who_is_gone_or_fails_for_days_is_switched_off_told_and_can_come_back(
    post: Post, mailbox: MailSink, worker: RunningWorker, status: int, age: timedelta, reason: str
) -> None:
    since = clock.now() - age if age else None
    endpoint = await post.endpoint(failing_since=since, failures=9 if age else 0)
    owner = await post.factory.person(None)
    await post.superuser.execute(
        "INSERT INTO memberships (id, organization_id, user_id, role, created_at)"
        " VALUES (gen_random_uuid(), $1, $2, 'owner', now())", post.organization, owner.id,
    )  # fmt: skip
    await post.message(endpoint)
    post.receiver.knobs.status = status
    assert await post.send() == 1
    row = await post.row("webhook_endpoints", endpoint)
    assert (row["state"], row["reason"]) == ("disabled", reason)
    until = time.monotonic() + 60
    while not mailbox.to(owner.email) and time.monotonic() < until:
        await asyncio.sleep(0.1)
    [mail] = mailbox.to(owner.email)
    assert post.receiver.url in mail.text
    base = f"/webhook-endpoints/{endpoint}"
    assert base in mail.text
    shown = await post.admin.page(base)
    assert "Switched off" in shown
    post.receiver.knobs.status = 200
    await post.admin.submit(f"{base}/enable", page=base)
    until = time.monotonic() + 60
    while (await post.deliveries(endpoint))[0]["state"] == "waiting" and not await post.send():
        assert time.monotonic() < until
        await asyncio.sleep(0.1)


async def test_servers_that_hang_leave_the_others_alone(post: Post) -> None:
    """Two at once for each at most; after one failure they share a quarter of the room, and rest."""
    owners, hanging = [await post.factory.organization() for _ in range(4)], []
    for n in range(FOR_ILL + 2):
        owner = owners[n % len(owners)]
        hanging.append(await post.endpoint(f"{post.receiver.address}/hooks?hangs={n}", organization_id=owner))
        for _ in range(PER_ENDPOINT + 3):
            await post.message(hanging[-1], organization_id=owner, next_attempt_at=clock.now() - timedelta(minutes=1))
    post.receiver.knobs.hang = 120
    began = time.perf_counter()
    assert await post.send(room=AT_ONCE) == len(hanging) * PER_ENDPOINT
    assert time.perf_counter() - began < len(hanging) * PER_ENDPOINT * PATIENCE / 2, "not one after the other"
    post.receiver.knobs.hang = 0
    clock.advance(timedelta(seconds=-30))  # the first rest is one second, and a busy machine sleeps longer
    assert await post.send() == 0, "they rest"
    clock.advance(timedelta(seconds=60))
    healthy = await post.endpoint()
    message = await post.message(healthy, next_attempt_at=clock.now())
    assert await post.send() == FOR_ILL + 1, "a quarter of the room for those that failed, and one that did not"
    assert (await post.row("webhook_deliveries", message))["state"] == "delivered"


@pytest.mark.parametrize("body", ["drip", "huge"])
async def test_an_answer_without_end_is_over_at_the_deadline_and_small(post: Post, body: str) -> None:
    endpoint = await post.endpoint()
    delivery = await post.message(endpoint)
    post.receiver.knobs.body = body  # type: ignore[assignment]
    began = time.perf_counter()
    assert await post.send() == 1
    assert time.perf_counter() - began < PATIENCE + 10
    [tried] = await post.attempts(delivery)
    row = await post.row("webhook_deliveries", delivery)
    if body == "huge":  # the status came, and of the rest nobody needs more than the beginning
        assert (row["state"], tried["status"], len(tried["response"])) == ("delivered", 200, 2_048)
    else:
        assert (row["state"], tried["status"]) == ("waiting", None)
        assert "did not answer within" in tried["error"]


async def test_nobody_there_and_nobody_of_that_name_are_failures_with_a_reason(post: Post) -> None:
    for url, told in (
        (f"http://127.0.0.1:{free_port()}/", "ConnectError"),
        ("https://no-such-name.invalid/", "ConnectError"),
    ):
        delivery = await post.message(await post.endpoint(url))
        assert await post.send() == 1
        [tried] = await post.attempts(delivery)
        assert told in tried["error"]


async def test_a_worker_that_dies_in_the_middle_loses_nothing(post: Post) -> None:
    endpoint = await post.endpoint()
    delivery = await post.message(
        endpoint, state="sending", attempts=1, tries=1, lease_until=clock.now() + timedelta(seconds=60)
    )
    assert await post.send() == 0
    clock.advance(timedelta(seconds=61))
    assert await post.send() == 1
    assert (await post.row("webhook_deliveries", delivery))["state"] == "delivered"


async def test_two_workers_never_send_the_same(post: Post) -> None:
    endpoints = [await post.endpoint(f"{post.receiver.url}?n={n}") for n in range(6)]
    for endpoint in endpoints:
        await post.message(endpoint)
    assert sum(await asyncio.gather(post.send(), post.send())) <= 6
    while await post.send():
        pass
    assert len(post.receiver.arrivals) == 6
    assert len({one.message_id for one in post.receiver.arrivals}) == 6
