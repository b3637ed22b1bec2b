"""Checkout, the bank's challenge and the hosted invoice, clicked through without a script."""

from __future__ import annotations

import pytest
from stripe import StripeClient

from infra.sandbox.stripe.server import StripeStandIn
from tests.sandbox.stripe.shop import BACK, CHALLENGED, DECLINED, GOOD, SUCCESS, Person, Shop


def success(session_id: str) -> str:
    return SUCCESS.replace("{CHECKOUT_SESSION_ID}", session_id)


def test_a_good_card_pays_and_leads_to_the_shop(client: StripeClient, shop: Shop, person: Person) -> None:
    customer = shop.customer()
    session = shop.checkout(customer=customer, client_reference_id="org-1")
    page = person.go(session.url)
    assert "Basic 2 20.00 EUR" in page
    assert "Due today 20.00 EUR" in page
    assert "Renews at 10.00 EUR per month each" in page
    assert "ada@example.com" in page
    person.send("Pay 20.00 EUR", card=GOOD)
    assert person.at == success(session.id)
    done = client.v1.checkout.sessions.retrieve(session.id)
    assert (done.status, done.payment_status, done.client_reference_id) == ("complete", "paid", "org-1")
    assert client.v1.subscriptions.retrieve(str(done.subscription)).status == "active"


def test_a_declined_card_says_so_and_another_may_be_tried(client: StripeClient, shop: Shop, person: Person) -> None:
    session = shop.checkout(customer=shop.customer())
    person.go(session.url)
    page = person.send("Pay", card=DECLINED)
    assert person.status == 402
    assert "Your card was declined." in page
    assert f'value="{DECLINED}" required checked' in person.text, "the choice is kept"
    assert client.v1.subscriptions.list().data == []
    person.send("Pay", card=GOOD)
    assert person.at == success(session.id)
    assert len(client.v1.subscriptions.list().data) == 1


def test_a_challenge_answered_with_yes_completes_the_session(client: StripeClient, shop: Shop, person: Person) -> None:
    session = shop.checkout(customer=shop.customer())
    person.go(session.url)
    page = person.send("Pay", card=CHALLENGED)
    assert "Is this payment yours?" in page
    assert "20.00 EUR" in page
    assert client.v1.checkout.sessions.retrieve(session.id).status == "open"
    assert "Is this payment yours?" in person.go(session.url), "whoever comes back is led to the bank again"
    person.send("Yes")
    assert person.at == success(session.id)
    assert client.v1.subscriptions.list().data[0].status == "active"


def test_a_challenge_answered_with_no_leads_back_to_try_another_card(
    client: StripeClient, shop: Shop, person: Person
) -> None:
    session = shop.checkout(customer=shop.customer())
    person.go(session.url)
    person.send("Pay", card=CHALLENGED)
    page = person.send("No")
    assert person.at == session.url
    assert "unable to authenticate" in page
    person.send("Pay", card=GOOD)
    assert person.at == success(session.id)
    assert [one.status for one in client.v1.subscriptions.list({"status": "all"}).data] == ["active"]


def test_the_way_back_leads_to_the_shop_and_leaves_the_session_open(
    client: StripeClient, shop: Shop, person: Person
) -> None:
    session = shop.checkout()
    person.go(session.url)
    assert f'href="{BACK}"' in person.text
    assert client.v1.checkout.sessions.retrieve(session.id).status == "open"


def test_the_same_session_in_two_tabs_is_paid_once(client: StripeClient, shop: Shop, person: Person) -> None:
    session = shop.checkout(customer=shop.customer())
    other = Person()
    person.go(session.url)
    other.go(session.url)
    person.send("Pay", card=GOOD)
    page = other.send("Pay", card=GOOD)
    assert other.status == 409
    assert "Already paid" in page
    assert success(session.id) in other.text
    assert len(client.v1.subscriptions.list().data) == 1
    assert "Already paid" in other.go(session.url)
    other.http.close()


def test_two_sessions_of_one_customer_can_both_be_paid(client: StripeClient, shop: Shop, person: Person) -> None:
    customer = shop.customer()
    for session in [shop.checkout(customer=customer), shop.checkout(customer=customer)]:
        person.go(session.url)
        person.send("Pay", card=GOOD)
    assert len(client.v1.subscriptions.list({"customer": customer}).data) == 2


def test_an_expired_session_says_so(stand_in: StripeStandIn, client: StripeClient, shop: Shop, person: Person) -> None:
    session = shop.checkout()
    url = session.url
    client.v1.checkout.sessions.expire(session.id)
    assert "This page has expired" in person.go(url)
    late = shop.checkout()
    stand_in.account.clock.advance(25 * 3600)
    assert "This page has expired" in person.go(late.url)
    assert person.go(f"{stand_in.address}/checkout/cs_none")
    assert person.status == 404


def test_a_trial_starts_without_a_charge(client: StripeClient, shop: Shop, person: Person) -> None:
    session = shop.checkout(customer=shop.customer(), subscription_data={"trial_period_days": 14})
    assert "Free for 14 days, then 10.00 EUR per month" in person.go(session.url)
    person.send("Start", card=GOOD)
    assert person.at == success(session.id)
    assert client.v1.subscriptions.list().data[0].status == "trialing"
    assert client.v1.charges.list().data == []


def test_an_open_invoice_is_paid_on_its_page(
    stand_in: StripeStandIn, client: StripeClient, shop: Shop, person: Person
) -> None:
    customer = shop.customer()
    shop.subscribed(customer)
    bad = client.v1.payment_methods.attach(DECLINED, {"customer": customer})
    client.v1.customers.update(customer, {"invoice_settings": {"default_payment_method": bad.id}})
    stand_in.account.clock.advance(32 * 86_400)
    invoice = client.v1.invoices.list({"status": "open"}).data[0]
    page = person.go(str(invoice.hosted_invoice_url))
    assert "Left to pay 10.00 EUR" in page
    assert "1 failed, the next on" in page
    assert "declined" in person.send("Pay 10.00 EUR", card=DECLINED)
    assert person.status == 402
    person.send("Pay 10.00 EUR", card=CHALLENGED)
    assert "/3ds/" in person.at
    assert "Your bank waits" in person.go(str(invoice.hosted_invoice_url))
    person.go(f"{stand_in.address}/3ds/{intent_of(client, invoice.id)}")
    assert "Paid. Nothing is left to do." in person.send("Yes")
    assert client.v1.subscriptions.list().data[0].status == "active"
    paid = client.v1.invoices.retrieve(invoice.id)
    document = person.http.get(str(paid.invoice_pdf)).content
    assert document.startswith(b"%PDF-1.4")
    assert paid.number
    assert paid.number.encode() in document
    receipt = client.v1.charges.list().data[0].receipt_url
    assert "10.00 EUR paid on" in person.go(str(receipt))


def intent_of(client: StripeClient, invoice: str) -> str:
    (payment,) = client.v1.invoice_payments.list({"invoice": invoice}).data
    return str(payment.payment.payment_intent)


@pytest.mark.parametrize("path", ["checkout", "invoice", "portal"])
def test_no_page_has_a_script_or_a_field_for_a_card_number(
    client: StripeClient, shop: Shop, person: Person, path: str
) -> None:
    customer = shop.customer()
    shop.subscribed(customer)
    urls = {
        "checkout": shop.checkout().url,
        "invoice": str(client.v1.invoices.list().data[0].hosted_invoice_url),
        "portal": shop.portal(customer),
    }
    person.go(urls[path])
    assert person.status == 200
    assert "default-src 'none'" in person.policy
    for forbidden in ("<script", "style=", "cc-number", 'type="text"', 'type="tel"'):
        assert forbidden not in person.text
