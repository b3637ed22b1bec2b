"""The event console: what a person sees of events and deliveries, and the few things they can press."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from infra.sandbox.stripe import endpoints, events
from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from tests.sandbox.stripe.receiver import Receiver

BAD = "<script>alert(1)</script>"


@pytest.fixture
def browser(stand_in: StripeStandIn) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stand_in.address, follow_redirects=True) as client:
        yield client


def emit(stand_in: StripeStandIn, number: int = 1, event_type: str = "invoice.paid") -> str:
    obj = {"id": f"in_{number}", "object": "invoice", "customer": "cus_1", "description": BAD}
    return str(events.emit(stand_in.account, event_type, obj, {"status": "open"})["id"])


def test_the_timeline_is_newest_first_and_pages(stand_in: StripeStandIn, browser: httpx.Client) -> None:
    assert "Nothing happened yet" in browser.get("/").text
    for number in range(120):
        emit(stand_in, number)
    seen, path = [], "/"
    while path:
        text = browser.get(path).text
        seen += re.findall(r"in_(\d+) · cus_1", text)
        older = re.search(r'href="([^"]+)">Older', text)
        path = older[1].replace("&amp;", "&") if older else ""
    assert seen == [str(number) for number in range(119, -1, -1)]


def test_the_timeline_finds_by_type_object_customer_and_fate(
    stand_in: StripeStandIn, browser: httpx.Client, receiver: Receiver
) -> None:
    endpoints.add(stand_in.account, receiver.url)
    emit(stand_in, 1)
    assert stand_in.account.courier.settle()
    stand_in.knobs = StripeKnobs(drop=1)
    emit(stand_in, 2, "charge.failed")

    def found(**params: str) -> list[str]:
        return re.findall(r"in_(\d+) · cus_1", browser.get("/", params=params).text)

    assert found() == ["2", "1"]
    assert found(q="invoice.") == ["1"]
    assert found(q="in_2") == ["2"]
    assert found(q="cus_1") == ["2", "1"]
    assert found(undelivered="1") == ["2"]
    assert "No event fits" in browser.get("/", params={"q": "payout."}).text
    assert "<code>drop</code>" in browser.get("/").text, "a turned knob is said at the top"


def test_an_event_shows_its_payload_and_each_attempt_with_its_answer(
    stand_in: StripeStandIn, browser: httpx.Client, receiver: Receiver
) -> None:
    endpoints.add(stand_in.account, receiver.url)
    stand_in.knobs = StripeKnobs(retry_factor=0)
    receiver.answers.append(503)
    sent = emit(stand_in)
    assert stand_in.account.courier.settle()
    text = browser.get(f"/events/{sent}").text
    assert text.index("answer 503") < text.index("answer 200")
    assert re.search(r"<td>503</td>\s*<td>\d+</td>", text)
    assert "accepted 200 \u00d72" in text
    assert "&lt;script&gt;alert(1)" in text
    assert "v1.invoice.paid" in text, "the thin twin"
    assert "Before the change" in text
    assert browser.get("/events/evt_none").status_code == 404


def test_resend_delivers_once_more_and_shows_it(
    stand_in: StripeStandIn, browser: httpx.Client, receiver: Receiver
) -> None:
    sent = emit(stand_in)
    made = endpoints.add(stand_in.account, receiver.url)
    page = browser.get(f"/events/{sent}").text
    assert "No endpoint wanted this event" in page
    assert f'value="{made["id"]}">Resend to {receiver.url}' in page
    browser.post(f"/events/{sent}/resend", data={"endpoint": made["id"]})
    assert stand_in.account.courier.settle()
    assert [one.event["id"] for one in receiver.received] == [sent]
    assert "resend accepted 200" in browser.get(f"/events/{sent}").text


def test_the_clock_moves_by_a_button_or_by_hours(stand_in: StripeStandIn, browser: httpx.Client) -> None:
    began = stand_in.account.now()
    assert browser.post("/clock", data={"step": "86400"}).status_code == 200
    assert 86_400 <= stand_in.account.now() - began < 86_400 + 300
    browser.post("/clock", data={"hours": "0.5"})
    assert 88_200 <= stand_in.account.now() - began < 88_200 + 300
    for wrong in ("", "soon", "-1", "nan", "1e9"):
        answer = browser.post("/clock", data={"hours": wrong})
        assert (answer.status_code, 'role="alert"' in answer.text) == (422, True), wrong
    assert stand_in.account.now() - began < 88_200 + 300


def test_endpoints_are_shown_without_secrets_until_one_is_rolled(
    stand_in: StripeStandIn, browser: httpx.Client, receiver: Receiver
) -> None:
    made = endpoints.add(stand_in.account, receiver.url)
    text = browser.get("/endpoints").text
    assert receiver.url in text
    assert "whsec_" not in text
    rolled = browser.post(f"/endpoints/{made['id']}/roll").text
    (shown,) = re.findall(r"whsec_\w+", rolled)
    assert shown != made["secret"]
    assert "2 live secrets" in rolled
    emit(stand_in)
    assert stand_in.account.courier.settle()
    assert receiver.received[0].is_signed_with(shown)


def test_the_faults_page_offers_every_knob_and_turns_it(stand_in: StripeStandIn, browser: httpx.Client) -> None:
    text = browser.get("/faults").text
    for name in StripeKnobs.model_fields:
        assert f"<code>{name}</code>" in text
    browser.post("/faults", data={"drop": "0.25", "serial": "true", "end_of_dunning": "unpaid"})
    knobs = stand_in.knobs
    assert (knobs.drop, knobs.serial, knobs.end_of_dunning) == (0.25, True, "unpaid")
    assert "<option selected>unpaid</option>" in browser.get("/faults").text
    assert browser.post("/faults", data={"drop": "2"}).status_code == 422


def test_no_page_of_the_console_runs_a_script(stand_in: StripeStandIn, browser: httpx.Client) -> None:
    sent = emit(stand_in)
    for path in ("/", f"/events/{sent}", "/endpoints", "/faults"):
        answer = browser.get(path)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "<script" not in answer.text
        assert "style=" not in answer.text
