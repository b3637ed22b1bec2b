"""What an event says of itself: both shapes, old versions, odd objects, and nonsense that somebody signed."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from stripe import WebhookSignature

from service.core.settings import Settings
from service.integrations.stripe.events import EventRefused, StripeEvent, parse
from service.integrations.stripe.signature import SignatureRefused, verify

SECRET = "whsec_events_0123456789"
SUBSCRIPTION: dict[str, Any] = {
    "id": "sub_1",
    "object": "subscription",
    "customer": "cus_1",
    "status": "active",
    "metadata": {"organization_id": "0198c0de-0000-7000-8000-000000000001"},
}


def snapshot(about: Any, **changes: Any) -> dict[str, Any]:
    return {
        "id": "evt_1",
        "object": "event",
        "type": "customer.subscription.updated",
        "api_version": "2026-10-28.endive",
        "created": 1_795_000_000,
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": "req_1", "idempotency_key": None},
        "data": {"object": about},
        **changes,
    }


def thin(**changes: Any) -> dict[str, Any]:
    return {
        "id": "evt_thin_1",
        "object": "v2.core.event",
        "type": "v1.customer.subscription.updated",
        "created": "2026-11-18T11:06:40.123Z",
        "livemode": False,
        "context": "acct_1",
        "reason": {"type": "request", "request": {"id": "req_1", "idempotency_key": "k"}},
        "related_object": {"id": "sub_1", "type": "subscription", "url": "/v1/subscriptions/sub_1"},
        "snapshot_event": "evt_1",
        **changes,
    }


def read(event: Any) -> StripeEvent:
    return parse(json.dumps(event).encode())


def test_a_snapshot_says_all_of_this() -> None:
    assert read(snapshot(SUBSCRIPTION, account="acct_1")) == StripeEvent(
        id="evt_1",
        type="customer.subscription.updated",
        kind="snapshot",
        livemode=False,
        created=datetime(2026, 11, 18, 11, 6, 40, tzinfo=UTC),
        account="acct_1",
        api_version="2026-10-28.endive",
        object_type="subscription",
        object_id="sub_1",
        status="active",
        customer_id="cus_1",
        charge_id=None,
        snapshot_event_id=None,
        request_id="req_1",
        client_reference_id=None,
        metadata_organization_id="0198c0de-0000-7000-8000-000000000001",
    )


def test_scenario_26_a_thin_event_names_its_twin_and_a_reference() -> None:
    found = read(thin())
    assert (found.kind, found.snapshot_event_id, found.request_id) == ("thin", "evt_1", "req_1")
    assert (found.object_type, found.object_id, found.customer_id) == ("subscription", "sub_1", None)
    assert found.created.replace(microsecond=0) == read(snapshot(SUBSCRIPTION)).created
    about_customer = read(thin(related_object={"id": "cus_1", "type": "customer", "url": "/v1/customers/cus_1"}))
    assert about_customer.customer_id == "cus_1"
    bare = read(thin(related_object=None, snapshot_event=None, reason=None, context=None))
    assert (bare.object_id, bare.snapshot_event_id, bare.request_id, bare.account) == (None, None, None, None)


@pytest.mark.parametrize("version", ["2020-08-27", "2025-03-31.basil", "2026-10-28.endive", None])
def test_scenario_24_every_rendering_names_the_same_things(version: str | None) -> None:
    """Fields moved between versions (the period to the item, an invoice's subscription to `parent`); these did not."""
    renderings: dict[str | None, dict[str, Any]] = {
        "2020-08-27": {"current_period_end": 1_797_000_000, "plan": {"id": "price_1"}},
        "2025-03-31.basil": {"items": {"object": "list", "data": [{"current_period_end": 1_797_000_000}]}},
    }
    found = read(snapshot(SUBSCRIPTION | renderings.get(version, {}), api_version=version))
    assert (found.id, found.type, found.object_id, found.customer_id) == (
        "evt_1", "customer.subscription.updated", "sub_1", "cus_1",
    )  # fmt: skip
    assert found.api_version == version


@pytest.mark.parametrize(
    ("about", "more", "customer"),
    [
        (SUBSCRIPTION | {"customer": {"id": "cus_1", "object": "customer", "email": "a@b.test"}}, {}, "cus_1"),
        (SUBSCRIPTION | {"customer": {"id": "cus_1", "object": "customer", "deleted": True}}, {}, "cus_1"),
        ({"id": "cus_1", "object": "customer"}, {"type": "customer.updated"}, "cus_1"),
        ({"id": "cus_1", "object": "customer"}, {"type": "customer.deleted"}, "cus_1"),
        ({"object": "invoice", "customer": "cus_1"}, {"type": "invoice.upcoming"}, "cus_1"),
        ({"id": "pm_1", "object": "payment_method", "customer": "cus_1"}, {}, "cus_1"),
        ({"id": "po_1", "object": "payout"}, {"type": "payout.paid"}, None),
        ({"id": "pi_1", "object": "payment_intent", "customer": None}, {}, None),
        ({"id": "pi_1", "object": "payment_intent", "customer": ["cus_1"]}, {}, None),
        ({}, {}, None),
        (None, {}, None),
    ],
)
def test_whose_event_it_is(about: Any, more: dict[str, Any], customer: str | None) -> None:
    assert read(snapshot(about, **more)).customer_id == customer


def test_an_upcoming_invoice_has_no_id() -> None:
    found = read(snapshot({"object": "invoice", "customer": "cus_1"}, type="invoice.upcoming"))
    assert (found.object_type, found.object_id) == ("invoice", None)


def test_a_detached_card_still_names_whose_it_was() -> None:
    about = {"id": "pm_1", "object": "payment_method", "customer": None}
    event = snapshot(about, data={"object": about, "previous_attributes": {"customer": "cus_1"}})
    assert read(event).customer_id == "cus_1"


def test_a_checkout_session_says_for_whom() -> None:
    about = {"id": "cs_1", "object": "checkout.session", "customer": None, "client_reference_id": "org_1"}
    found = read(snapshot(about, type="checkout.session.completed"))
    assert (found.client_reference_id, found.customer_id, found.metadata_organization_id) == ("org_1", None, None)


@pytest.mark.parametrize("charge", ["ch_1", {"id": "ch_1", "object": "charge"}])
def test_a_dispute_names_its_charge_and_no_customer(charge: Any) -> None:
    found = read(snapshot({"id": "du_1", "object": "dispute", "charge": charge}, type="charge.dispute.created"))
    assert (found.charge_id, found.customer_id) == ("ch_1", None)


def test_scenario_25_types_that_nobody_knows_yet_are_events_too() -> None:
    assert read(snapshot({}, type="invoice.renamed_in_2031")).type == "invoice.renamed_in_2031"
    odd = "v2.core.account[configuration.merchant].capability_status_updated"
    assert read(thin(type=odd)).type == odd


@pytest.mark.parametrize(
    "bad", ["../v1/refunds", "cus_1/cancel", "cus_1?expand", "cus 1", "cus_\0", "", "ä", "x" * 256, 7]
)
def test_what_could_not_be_an_id_is_none(bad: object) -> None:
    """Ids become parts of paths and columns: a NUL stops PostgreSQL, a slash asks Stripe for something else."""
    found = read(snapshot({"id": bad, "object": "subscription", "customer": bad, "metadata": {"organization_id": bad}}))
    assert (found.object_id, found.customer_id, found.metadata_organization_id) == (None, None, None)
    with pytest.raises(EventRefused):
        read(snapshot(SUBSCRIPTION, id=bad))
    with pytest.raises(EventRefused):
        read(snapshot(SUBSCRIPTION, type=bad))


DEEP = 5_000
NOT_EVENTS: dict[str, bytes] = {
    "empty": b"",
    "array": b"[1]",
    "bare": b"{}",
    "number": b"7",
    "null": b"null",
    "text": b'"evt_1"',
    "html": b"<html>",
    "NaN": b'{"created": NaN}',
    "no UTF-8": b'{"id": "\xff"}',
    "deep arrays": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"object":' * DEEP + b"1" + b"}" * DEEP,
    "lone surrogate": json.dumps(snapshot({"id": "\ud800"})).encode(),
    "huge time": json.dumps(snapshot({}, created=10**400)).encode(),
    "time after 9999": json.dumps(snapshot({}, created=253_402_300_800)).encode(),
    "negative time": json.dumps(snapshot({}, created=-1)).encode(),
    "time is true": json.dumps(snapshot({}, created=True)).encode(),
    "time is text": json.dumps(snapshot({}, created="2026-11-18")).encode(),
    "NUL in the id": json.dumps(snapshot({}, id="evt_\0")).encode(),
    "mode is missing": json.dumps({**snapshot({}), "livemode": None}).encode(),
    "mode is a word": json.dumps(snapshot({}, livemode="false")).encode(),
    "another object": json.dumps(snapshot({}, object="subscription")).encode(),
    "object is a list": json.dumps(snapshot({}, object=["event"])).encode(),
    "truncated": json.dumps(snapshot(SUBSCRIPTION)).encode()[:-1],
    "two": json.dumps(snapshot(SUBSCRIPTION)).encode() * 2,
    "thin without a time": json.dumps(thin(created=None)).encode(),
    "thin at a local time": json.dumps(thin(created="2026-11-18T11:06:40")).encode(),
    "thin before time": json.dumps(thin(created="0001-01-01T00:00:00+23:59")).encode(),
}


@pytest.mark.parametrize("name", NOT_EVENTS)
def test_what_is_no_event_is_refused_and_nothing_worse(name: str) -> None:
    with pytest.raises(EventRefused):
        parse(NOT_EVENTS[name])


def test_odd_values_elsewhere_do_not_cost_an_event() -> None:
    """What we do not read may be as it likes: the state is read from Stripe, not from here."""
    odd = SUBSCRIPTION | {"quantity": 10**30, "note": "\0", "metadata": [], "client_reference_id": {"a": 1}}
    found = read(snapshot(odd, request="req_old_style", api_version=3, data={"object": odd, "previous_attributes": 1}))
    assert (found.object_id, found.customer_id, found.request_id, found.api_version) == ("sub_1", "cus_1", None, None)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["event", "cus_1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
fields = {
    "id": st.just("evt_1") | anything,
    "type": st.just("invoice.paid") | anything,
    "livemode": st.booleans() | anything,
    "created": st.integers() | st.datetimes().map(str) | st.sampled_from(["2026-11-18T11:06:40Z"]) | anything,
    "data": st.fixed_dictionaries({"object": anything, "previous_attributes": anything}) | anything,
    "related_object": anything,
    "request": anything,
    "reason": anything,
    "context": anything,
    "snapshot_event": anything,
}
settings = Settings(stripe_webhook_secrets=SecretStr(SECRET))


@given(st.fixed_dictionaries({"object": st.sampled_from(["event", "v2.core.event"])}, optional=fields) | anything)
def test_any_signed_json_is_an_event_or_refused(value: Any) -> None:
    text = json.dumps(value)
    header = WebhookSignature.generate_signature_header(text, SECRET, int(time.time()))
    assert verify(settings, header, text.encode()) == "1"
    try:
        found = parse(text.encode())
    except EventRefused:
        return
    kept = (found.id, found.type, found.object_id, found.customer_id, found.account, found.client_reference_id)
    assert all(each is None or (each.isascii() and each.isprintable() and len(each) <= 255) for each in kept)
    assert 1 <= found.created.year <= 9999


@given(st.binary(max_size=200), st.text(max_size=100))
def test_any_bytes_under_any_header_are_refused_and_nothing_worse(body: bytes, header: str) -> None:
    with pytest.raises(SignatureRefused):
        verify(settings, header, body)
    with pytest.raises(EventRefused):
        parse(body)
