"""Endpoints come and go over the API, choose their events and their shape, and roll their secrets."""

from __future__ import annotations

import pytest
import stripe
from stripe import StripeClient

from infra.sandbox.stripe import endpoints, events
from infra.sandbox.stripe.server import StripeStandIn
from tests.sandbox.stripe.receiver import Receiver

PLAN = {"id": "sub_1", "object": "subscription", "customer": "cus_1", "status": "active"}


def test_an_endpoint_is_made_read_changed_listed_and_deleted(client: StripeClient) -> None:
    made = client.v1.webhook_endpoints.create(
        {"url": "http://localhost:1/a", "enabled_events": ["invoice.paid"], "metadata": {"team": "a"}}
    )
    assert made.secret
    assert made.secret.startswith("whsec_")
    read = client.v1.webhook_endpoints.retrieve(made.id)
    assert "secret" not in read, "shown once, when it is made"
    assert (read.url, read.status, read.metadata.to_dict()) == ("http://localhost:1/a", "enabled", {"team": "a"})
    changed = client.v1.webhook_endpoints.update(
        made.id, {"url": "http://localhost:1/b", "enabled_events": ["*"], "disabled": True}
    )
    assert (changed.url, changed.enabled_events, changed.status) == ("http://localhost:1/b", ["*"], "disabled")
    assert client.v1.webhook_endpoints.update(made.id, {"description": "x"}).status == "disabled"
    assert [one.id for one in client.v1.webhook_endpoints.list().data] == [made.id]
    assert client.v1.webhook_endpoints.delete(made.id).deleted
    assert client.v1.webhook_endpoints.list().data == []
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.v1.webhook_endpoints.retrieve(made.id)
    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://localhost/x", "/webhooks"])
def test_an_address_that_is_none_is_refused(client: StripeClient, url: str) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.webhook_endpoints.create({"url": url, "enabled_events": ["*"]})


def test_an_endpoint_gets_the_types_it_asked_for_and_none_while_disabled(
    stand_in: StripeStandIn, client: StripeClient, receiver: Receiver
) -> None:
    made = client.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["invoice.paid"]})
    account = stand_in.account
    events.emit(account, "customer.subscription.updated", PLAN)
    events.emit(account, "invoice.paid", {"id": "in_1", "object": "invoice"})
    assert account.courier.settle()
    client.v1.webhook_endpoints.update(made.id, {"disabled": True})
    unheard = events.emit(account, "invoice.paid", {"id": "in_2", "object": "invoice"})
    assert unheard["pending_webhooks"] == 0
    client.v1.webhook_endpoints.update(made.id, {"disabled": False})
    events.emit(account, "invoice.paid", {"id": "in_3", "object": "invoice"})
    assert account.courier.settle()
    assert [one.event["data"]["object"]["id"] for one in receiver.received] == ["in_1", "in_3"]


def test_during_a_roll_both_secrets_sign_and_afterwards_only_the_new_one(
    stand_in: StripeStandIn, client: StripeClient, receiver: Receiver
) -> None:
    made = client.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["*"]})
    old, account = str(made.secret), stand_in.account
    new = endpoints.roll(account, made.id, overlap=3600)
    events.emit(account, "invoice.paid", {"id": "in_1", "object": "invoice"})
    assert account.courier.settle()
    newest = endpoints.roll(account, made.id, overlap=0)
    events.emit(account, "invoice.paid", {"id": "in_2", "object": "invoice"})
    assert account.courier.settle()
    during, after = receiver.received
    assert during.signature.count("v1=") == 2
    assert during.is_signed_with(old)
    assert during.is_signed_with(new)
    assert after.signature.count("v1=") == 1
    assert after.is_signed_with(newest)
    assert not after.is_signed_with(new)


def test_a_thin_destination_gets_a_reference_that_leads_to_the_event(
    stand_in: StripeStandIn, client: StripeClient, receiver: Receiver
) -> None:
    made = client.v2.core.event_destinations.create(
        {
            "name": "thin",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": ["v1.customer.subscription.updated"],
            "webhook_endpoint": {"url": receiver.url},
            "include": ["webhook_endpoint.signing_secret", "webhook_endpoint.url"],
        }
    )
    assert made.webhook_endpoint
    assert made.webhook_endpoint.url == receiver.url
    events.emit(stand_in.account, "invoice.paid", {"id": "in_1", "object": "invoice"})
    snapshot = events.emit(stand_in.account, "customer.subscription.updated", PLAN, {"status": "incomplete"})
    assert stand_in.account.courier.settle()
    (one,) = receiver.received
    note = client.parse_event_notification(one.body, one.signature, made.webhook_endpoint.signing_secret)
    assert isinstance(note, stripe.events.V1CustomerSubscriptionUpdatedEventNotification)
    assert (note.related_object.id, note.related_object.type) == ("sub_1", "subscription")
    assert note.related_object.url == "/v1/subscriptions/sub_1"
    assert "data" not in one.event
    full = note.fetch_event()
    assert full.snapshot_event == snapshot["id"]
    assert full.changes
    assert full.changes.to_dict() == {"before": {"status": "incomplete"}, "after": {"status": "active"}}
    assert client.v2.core.event_destinations.list().data[0].event_payload == "thin"
    assert client.v1.webhook_endpoints.list().data == [], "a destination of the other kind"
    client.v2.core.event_destinations.delete(made.id)
    assert client.v2.core.event_destinations.list().data == []


def test_an_endpoint_pinned_to_an_old_version_gets_the_shapes_of_that_time(
    stand_in: StripeStandIn, client: StripeClient, receiver: Receiver
) -> None:
    pinned = {"url": receiver.url, "enabled_events": ["*"], "api_version": "2020-08-27"}
    client.v1.webhook_endpoints.create(pinned)  # type: ignore[arg-type]
    item = {"id": "si_1", "current_period_start": 1, "current_period_end": 2, "quantity": 1}
    before = {"items": {"data": [item | {"current_period_end": 1}]}}
    shape = PLAN | {"items": {"object": "list", "data": [item]}}
    events.emit(stand_in.account, "customer.subscription.updated", shape, before)
    parent = {"type": "subscription_details", "subscription_details": {"subscription": "sub_1"}}
    invoice = {"id": "in_1", "object": "invoice", "status": "paid", "parent": parent}
    assert stand_in.account.courier.settle()
    events.emit(stand_in.account, "invoice.paid", invoice)
    assert stand_in.account.courier.settle()
    old, bill = (one.event for one in receiver.received)
    assert old["api_version"] == "2020-08-27"
    assert old["data"]["object"]["current_period_end"] == 2
    assert "current_period_end" not in old["data"]["object"]["items"]["data"][0]
    assert old["data"]["previous_attributes"]["current_period_end"] == 1
    assert bill["data"]["object"]["subscription"] == "sub_1"
    assert "parent" not in bill["data"]["object"]
    today = client.v1.events.retrieve(old["id"]).to_dict()
    assert today["data"]["object"] == shape, "the event itself stays as it was made"
