"""The door for Stripe's messages: who is believed, what is kept, and what a 2xx promises."""

from __future__ import annotations

import asyncio
import time
from typing import Any, TypeAlias
from uuid import uuid4

import asyncpg
import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.guardrails.inbox import opened
from service.guardrails.strict_json import MOST_JSON
from tests.support.servers import RunningServer
from tests.support.stripe import WEBHOOK_SECRET, event_body, post, signed

Db: TypeAlias = "asyncpg.Connection[Any]"
SUBSCRIPTION = {"id": "sub_1", "object": "subscription", "customer": "cus_nobody", "status": "active"}


async def stored(superuser: Db, event_id: str) -> list[asyncpg.Record]:
    found: list[asyncpg.Record] = await superuser.fetch("SELECT * FROM inbox WHERE external_id = $1", event_id)
    return found


async def junk(superuser: Db) -> list[str]:
    """Messages that are no event of Stripe's; real ones may come in at any time, brought by a sweep of the worker."""
    found = "SELECT external_id FROM inbox WHERE source = 'stripe' AND external_id NOT LIKE 'evt\\_%'"
    return [row[0] for row in await superuser.fetch(found)]


async def test_a_message_is_kept_as_it_came(server: RunningServer, superuser: Db) -> None:
    event_id = f"evt_{uuid4().hex}"
    body = event_body("customer.subscription.updated", SUBSCRIPTION, event_id=event_id)
    assert (await post(server.url, body)).status_code == 200
    [row] = await stored(superuser, event_id)
    assert (opened(row), row["subject"], row["type"]) == (body, "cus_nobody", "customer.subscription.updated")
    assert orjson.loads(row["facts"])["via"] == "secret 1"


async def test_a_long_message_is_kept_too(server: RunningServer, superuser: Db) -> None:
    """An invoice of a thousand lines is longer than the JSON that anybody else may send."""
    event_id = f"evt_{uuid4().hex}"
    long = {**SUBSCRIPTION, "metadata": {"note": "n" * (2 * MOST_JSON)}}
    body = event_body("customer.subscription.updated", long, event_id=event_id)
    assert (await post(server.url, body)).status_code == 200
    [row] = await stored(superuser, event_id)
    assert opened(row) == body


async def test_scenario_03_twenty_at_the_same_instant(server: RunningServer, superuser: Db) -> None:
    event_id = f"evt_{uuid4().hex}"
    body = event_body("customer.subscription.updated", SUBSCRIPTION, event_id=event_id)
    answers = await asyncio.gather(*(post(server.url, body) for _ in range(20)))
    assert [answer.status_code for answer in answers] == [200] * 20
    assert sorted(answer.text for answer in answers) == ["known"] * 19 + ["new"]
    assert len(await stored(superuser, event_id)) == 1


async def test_scenario_13_no_commit_no_2xx(server: RunningServer, superuser: Db) -> None:
    """The commit itself fails: an answer sent before it would have told Stripe to forget the event."""
    event_id = f"evt_{uuid4().hex}"
    await superuser.execute(f"""
        CREATE FUNCTION refuse_commit() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = '53100'; END $$;
        CREATE CONSTRAINT TRIGGER refuse_commit AFTER INSERT ON inbox DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (NEW.external_id = '{event_id}') EXECUTE FUNCTION refuse_commit();
    """)
    body = event_body("customer.subscription.updated", SUBSCRIPTION, event_id=event_id)
    try:
        assert (await post(server.url, body)).status_code >= 500
    finally:
        await superuser.execute("DROP TRIGGER refuse_commit ON inbox; DROP FUNCTION refuse_commit()")
    assert not await stored(superuser, event_id)
    assert (await post(server.url, body)).text == "new"


async def test_scenario_15_both_spellings_and_no_redirect(server: RunningServer) -> None:
    body = event_body("customer.subscription.updated", SUBSCRIPTION)
    async with httpx.AsyncClient(verify=False) as client:
        for path in ("/webhooks/stripe", "/webhooks/stripe/"):
            answer = await client.post(server.url + path, content=body, headers=signed(body))
            assert answer.status_code == 200, path


async def test_scenario_16_junk_makes_no_row(server: RunningServer, superuser: Db) -> None:
    before = await junk(superuser)
    huge = b'{"id": "' + b"x" * 1_100_000 + b'"}'
    assert (await post(server.url, huge)).status_code == 413
    for body in (b"", b"{", b"\xff\xfe", b"null", b"[" * 5_000 + b"]" * 5_000):
        assert (await post(server.url, body, {"stripe-signature": "t=1,v1=00"})).status_code == 400
    assert await junk(superuser) == before


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"stripe-signature": ""},
        {"stripe-signature": "t=1,v1=abc"},
        {"stripe-signature": f"t={int(time.time())},v1={'0' * 64}"},
        signed(b"another body"),
    ],
)
async def test_scenario_17_a_forged_event(server: RunningServer, superuser: Db, headers: dict[str, str]) -> None:
    event_id = f"evt_{uuid4().hex}"
    answer = await post(
        server.url, event_body("customer.subscription.updated", SUBSCRIPTION, event_id=event_id), headers
    )
    assert answer.status_code == 400
    assert not await stored(superuser, event_id)


@pytest.mark.parametrize("seconds", [-310, 310])
async def test_scenario_18_and_19_another_time(server: RunningServer, superuser: Db, seconds: int) -> None:
    """A captured delivery of long ago; and one from a clock that is ahead, which the library alone lets through."""
    event_id = f"evt_{uuid4().hex}"
    body = event_body("customer.subscription.updated", SUBSCRIPTION, event_id=event_id)
    answer = await post(server.url, body, signed(body, at=int(time.time()) + seconds))
    assert answer.status_code == 400
    assert not await stored(superuser, event_id)


async def test_scenario_20_two_signatures_during_a_roll(server: RunningServer) -> None:
    body = event_body("customer.subscription.updated", SUBSCRIPTION)
    at = int(time.time())
    new, old = (signed(body, secret, at=at)["stripe-signature"] for secret in ("whsec_new", WEBHOOK_SECRET))
    header = f"{new},{old.split(',')[1]}"
    assert (await post(server.url, body, {"stripe-signature": header})).status_code == 200


async def test_scenario_22_the_other_mode_is_kept_and_never_applied(server: RunningServer, superuser: Db) -> None:
    event_id = f"evt_{uuid4().hex}"
    body = event_body("customer.subscription.updated", SUBSCRIPTION, event_id=event_id, livemode=True)
    assert (await post(server.url, body)).text == "ignored"
    [row] = await stored(superuser, event_id)
    assert (row["state"], row["reason"], row["realm"], row["gen"]) == ("ignored", "mode", "live", None)


@pytest.mark.parametrize("version", ["2020-08-27", "2025-03-31.basil", "2030-01-01.future", None])
async def test_scenario_24_any_api_version(server: RunningServer, superuser: Db, version: str | None) -> None:
    event_id = f"evt_{uuid4().hex}"
    body = event_body("customer.subscription.updated", SUBSCRIPTION, event_id=event_id, api_version=version)
    assert (await post(server.url, body)).text == "new"
    [row] = await stored(superuser, event_id)
    assert row["subject"] == "cus_nobody"


async def test_scenario_25_a_type_that_is_new(server: RunningServer, superuser: Db) -> None:
    event_id = f"evt_{uuid4().hex}"
    assert (await post(server.url, event_body("treasury.unheard_of", {}, event_id=event_id))).text == "ignored"
    [row] = await stored(superuser, event_id)
    assert (row["state"], row["reason"]) == ("ignored", "type")


async def test_scenario_26_a_thin_event_names_its_twin(server: RunningServer, superuser: Db) -> None:
    event_id = f"evt_{uuid4().hex}"
    body = orjson.dumps(
        {
            "id": event_id, "object": "v2.core.event", "type": "v1.customer.subscription.updated", "livemode": False,
            "created": "2026-11-22T10:00:00.000Z", "snapshot_event": "evt_twin",
            "related_object": {"id": "sub_1", "type": "subscription", "url": "/v1/subscriptions/sub_1"},
        }
    )  # fmt: skip
    assert (await post(server.url, body)).text == "new"
    [row] = await stored(superuser, event_id)
    facts = orjson.loads(row["facts"])
    assert (facts["kind"], facts["twin"], facts["object_id"]) == ("thin", "evt_twin", "sub_1")


async def test_scenario_72_the_database_goes_away_meanwhile(server: RunningServer, superuser: Db) -> None:
    """A failover ends the connection in the middle of the statement: no row, no 2xx, and Stripe comes again."""
    event_id = f"evt_{uuid4().hex}"
    body = event_body("customer.subscription.updated", SUBSCRIPTION, event_id=event_id)
    async with superuser.transaction():
        await superuser.execute("LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE")
        sending = asyncio.create_task(post(server.url, body))
        killed = 0
        while not killed:
            await superuser.execute("SELECT pg_stat_clear_snapshot()")  # in a transaction it would never change
            killed = await superuser.fetchval("""
                SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE application_name = 'ballast-inbox' AND wait_event_type = 'Lock' AND datname = current_database()
            """)
            await asyncio.sleep(0.01)
        answer = await sending
    assert answer.status_code == 503
    assert not await stored(superuser, event_id)
    assert (await post(server.url, body)).text == "new"


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=12,
    ),
    name=st.sampled_from(["id", "type", "object", "data", "livemode", "created", "customer", "request", "account"]),
    inside=st.booleans(),
)
async def test_whatever_is_signed_never_gets_a_5xx(
    server: RunningServer, value: object, name: str, inside: bool
) -> None:
    """Any JSON in any place of an otherwise good event: kept or refused, never a crash."""
    event = orjson.loads(event_body("customer.subscription.updated", dict(SUBSCRIPTION)))
    (event["data"]["object"] if inside else event)[name] = value
    try:
        body = orjson.dumps(event)
    except TypeError:  # an integer of more than 64 bits, which other JSON writers do send
        body = repr(event).encode()
    answer = await post(server.url, body, signed(body))
    assert answer.status_code in (200, 400), answer.text
