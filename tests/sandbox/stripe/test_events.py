"""Events: what one holds, and the lists that find what a webhook missed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe
from stripe import StripeClient

from infra.sandbox.stripe import endpoints, events
from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.records import EventLog
from infra.sandbox.stripe.server import StripeStandIn
from tests.sandbox.stripe.receiver import Receiver


def invoice(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": f"in_{number}", "object": "invoice", "customer": "cus_1", **fields}


def emit(stand_in: StripeStandIn, count: int, event_type: str = "invoice.paid") -> list[str]:
    return [events.emit(stand_in.account, event_type, invoice(number))["id"] for number in range(count)]


def test_an_event_holds_the_object_as_it_was_and_what_it_was_before(
    stand_in: StripeStandIn, client: StripeClient
) -> None:
    obj = invoice(1, lines={"data": [{"amount": 5}]})
    made = events.emit(stand_in.account, "invoice.updated", obj, {"status": "draft"})
    obj["lines"]["data"][0]["amount"] = 9
    read = client.v1.events.retrieve(made["id"])
    assert read.to_dict() == made
    assert read.data.object["lines"]["data"][0]["amount"] == 5, "later changes do not reach it"
    assert read.data.previous_attributes
    assert read.data.previous_attributes.to_dict() == {"status": "draft"}
    assert (read.api_version, read.livemode, read.pending_webhooks) == (stripe.api_version, False, 0)
    assert "previous_attributes" not in events.emit(stand_in.account, "invoice.paid", invoice(2))["data"]


def test_a_change_over_the_api_names_its_request_and_idempotency_key(client: StripeClient) -> None:
    made = client.v1.customers.create({"email": "a@example.com"}, {"idempotency_key": "intent-1"})
    (event,) = client.v1.events.list({"type": "customer.created"}).data
    assert event.request
    assert event.request.idempotency_key == "intent-1"
    assert event.request.id == made.last_response.request_id  # type: ignore[union-attr]
    assert event.data.object["id"] == made.id


def test_the_list_is_newest_first_and_pages_both_ways(stand_in: StripeStandIn, client: StripeClient) -> None:
    ids = emit(stand_in, 7)[::-1]
    first = client.v1.events.list({"limit": 3})
    assert ([one.id for one in first.data], first.has_more) == (ids[:3], True)
    last = client.v1.events.list({"limit": 3, "starting_after": ids[3]})
    assert ([one.id for one in last.data], last.has_more) == (ids[4:], False)
    back = client.v1.events.list({"limit": 2, "ending_before": ids[4]})
    assert ([one.id for one in back.data], back.has_more) == (ids[2:4], True)
    assert [one.id for one in client.v1.events.list({"limit": 2}).auto_paging_iter()] == ids
    for broken in ({"limit": 0}, {"limit": 101}, {"starting_after": "evt_none"}):
        with pytest.raises(stripe.InvalidRequestError):
            client.v1.events.list(broken)  # type: ignore[arg-type]


def test_the_list_filters_by_type_types_and_created(stand_in: StripeStandIn, client: StripeClient) -> None:
    started = stand_in.account.now()
    emit(stand_in, 2)
    stand_in.account.clock.advance(3600)
    emit(stand_in, 3, "invoice.finalized")
    emit(stand_in, 1, "charge.succeeded")

    def count(**params: Any) -> int:
        return len(client.v1.events.list(params).data)  # type: ignore[arg-type]

    assert count(type="invoice.paid") == 2
    assert count(type="invoice.*") == 5
    assert count(types=["invoice.paid", "charge.succeeded"]) == 3
    assert count(created={"gte": started + 1800}) == 4
    assert count(created={"gte": started, "lt": started + 1800}) == 2
    assert count(created={"gt": started + 7200}) == 0
    with pytest.raises(stripe.InvalidRequestError):
        count(types=[f"a.{number}" for number in range(21)])
    with pytest.raises(stripe.InvalidRequestError):
        count(created={"around": 5})


def test_delivery_success_is_about_all_endpoints_together(
    stand_in: StripeStandIn, client: StripeClient, receiver: Receiver
) -> None:
    (unheard,) = emit(stand_in, 1)
    endpoints.add(stand_in.account, receiver.url)
    (heard,) = emit(stand_in, 1)
    assert stand_in.account.courier.settle()
    stand_in.knobs = StripeKnobs(drop=1)
    (lost,) = emit(stand_in, 1)
    assert [one.id for one in client.v1.events.list({"delivery_success": True}).data] == [heard, unheard]
    failed = client.v1.events.list({"delivery_success": False}).data
    assert [(one.id, one.pending_webhooks) for one in failed] == [(lost, 1)]


def test_a_suppressed_event_exists_nowhere(stand_in: StripeStandIn, client: StripeClient, receiver: Receiver) -> None:
    endpoints.add(stand_in.account, receiver.url)
    stand_in.knobs = StripeKnobs(suppress=1)
    made = emit(stand_in, 1)[0]
    assert stand_in.account.courier.settle()
    assert client.v1.events.list().data == []
    assert receiver.received == []
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.events.retrieve(made)


def test_one_change_can_make_twins_with_different_ids(stand_in: StripeStandIn, client: StripeClient) -> None:
    stand_in.knobs = StripeKnobs(twin=1)
    emit(stand_in, 1)
    one, other = client.v1.events.list().data
    assert one.id != other.id
    assert one.data.object.to_dict() == other.data.object.to_dict()


def test_the_thin_list_pages_and_filters(stand_in: StripeStandIn, client: StripeClient) -> None:
    ids = emit(stand_in, 5)[::-1]
    emit(stand_in, 1, "charge.succeeded")
    page = client.v2.core.events.list({"limit": 2, "types": ["v1.invoice.paid"]})
    assert [one.snapshot_event for one in page.auto_paging_iter()] == ids
    (only,) = client.v2.core.events.list({"object_id": "in_4"}).data
    assert only.type == "v1.invoice.paid"
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert client.v2.core.events.list({"created": {"gt": later}}).data == []
    assert client.v2.core.events.retrieve(only.id).id == only.id


def test_the_oldest_events_give_way(stand_in: StripeStandIn) -> None:
    stand_in.account.events = EventLog(kept=3)
    ids = emit(stand_in, 5)
    assert [one.id for one in stand_in.account.events.oldest_first()] == ids[2:]
