"""The customer portal, clicked through without a script."""

from __future__ import annotations

import re

from stripe import StripeClient

from infra.sandbox.stripe.server import StripeStandIn
from tests.sandbox.stripe.shop import BACK, CHALLENGED, DECLINED, GOOD, Person, Shop


def test_a_change_of_plan_is_previewed_paid_and_keeps_the_item(
    client: StripeClient, shop: Shop, person: Person
) -> None:
    customer = shop.customer()
    subscription = shop.subscribed(customer)
    item = client.v1.subscriptions.retrieve(subscription.id).to_dict()["items"]["data"][0]["id"]
    page = person.go(shop.portal(customer))
    assert "Billing of Ada & Co" in page
    assert "Basic active 10.00 EUR per month" in page
    assert f'href="{BACK}"' in person.text
    page = person.send("See what it costs", price=shop.prices["Pro"], quantity="2")
    assert "Change to Pro" in page
    # The period loses a cent with every few minutes, and with the first second that passes.
    assert re.search(r"Due now (50\.00|49\.9\d) EUR", page)
    assert client.v1.invoices.list().data[0].amount_due == 1000, "a preview changes nothing"
    assert "The change was taken up." in person.send("Confirm")
    changed = client.v1.subscriptions.retrieve(subscription.id).to_dict()["items"]["data"][0]
    assert (changed["id"], changed["price"]["id"], changed["quantity"]) == (item, shop.prices["Pro"], 2)
    assert 4990 <= client.v1.invoices.list().data[0].amount_paid <= 5000


def test_a_change_whose_payment_fails_waits_and_can_be_paid(client: StripeClient, shop: Shop, person: Person) -> None:
    customer = shop.customer()
    subscription = shop.subscribed(customer)
    person.go(shop.portal(customer))
    person.send("Use this card", card=DECLINED)
    person.send("See what it costs", price=shop.prices["Pro"], quantity="1")
    page = person.send("Confirm")
    assert "A change waits to be paid." in page
    kept = client.v1.subscriptions.retrieve(subscription.id).to_dict()
    assert kept["items"]["data"][0]["price"]["id"] == shop.prices["Basic"]
    assert kept["pending_update"]
    invoice = client.v1.invoices.list({"status": "open"}).data[0]
    assert f'href="/invoices/{invoice.id}"' in person.text
    person.go(str(invoice.hosted_invoice_url))
    person.send("Pay", card=GOOD)
    now = client.v1.subscriptions.retrieve(subscription.id).to_dict()
    assert (now["items"]["data"][0]["price"]["id"], now["pending_update"]) == (shop.prices["Pro"], None)


def test_cancelling_sets_only_cancel_at_and_is_taken_back(client: StripeClient, shop: Shop, person: Person) -> None:
    customer = shop.customer()
    subscription = shop.subscribed(customer)
    person.go(shop.portal(customer))
    page = person.send("Cancel at the end")
    assert "Ends on" in page
    planned = client.v1.subscriptions.retrieve(subscription.id)
    assert planned.cancel_at
    assert planned.cancel_at_period_end is False
    assert "Renews on" in person.send("Do not cancel")
    assert client.v1.subscriptions.retrieve(subscription.id).cancel_at is None


def test_another_card_pays_from_now_on(client: StripeClient, shop: Shop, person: Person) -> None:
    customer = shop.customer()
    shop.subscribed(customer)
    assert "Visa ending in 4242 pays." in person.go(shop.portal(customer))
    assert "Visa ending in 3184 pays." in person.send("Use this card", card=CHALLENGED)
    default = client.v1.customers.retrieve(customer).invoice_settings
    assert default
    method = client.v1.payment_methods.retrieve(str(default.default_payment_method))
    assert method.card
    assert method.card.last4 == "3184"


def test_wrong_input_is_explained_and_changes_nothing(client: StripeClient, shop: Shop, person: Person) -> None:
    customer = shop.customer()
    subscription = shop.subscribed(customer)
    before = client.v1.subscriptions.retrieve(subscription.id).to_dict()
    url = shop.portal(customer)
    for fields in (
        {"quantity": "0"},
        {"quantity": "-1"},
        {"quantity": "many"},
        {"quantity": "1", "price": "price_none"},
    ):
        person.go(url)
        person.send("See what it costs", **{"price": shop.prices["Pro"]} | fields)
        assert person.status == 422
        assert 'role="alert"' in person.text
    person.go(url)
    person.send("Use this card", card="pm_none")
    assert person.status == 422
    assert client.v1.subscriptions.retrieve(subscription.id).to_dict() == before


def test_nobody_reaches_somebody_elses_subscription(client: StripeClient, shop: Shop, person: Person) -> None:
    victim = shop.subscribed(shop.customer())
    attacker = shop.customer()
    shop.subscribed(attacker)
    url = shop.portal(attacker)
    for step in ("preview", "change", "cancel", "keep"):
        person.go(url)
        answer = person.http.post(f"{url}/{step}", data={"subscription": victim.id, "price": shop.prices["Pro"]})
        assert answer.status_code == 422
        assert "No such subscription" in answer.text
    assert client.v1.subscriptions.retrieve(victim.id).cancel_at is None
    assert person.go(f"{url}0")
    assert person.status == 404


def test_a_flow_shows_its_one_step_and_leads_back(client: StripeClient, shop: Shop, person: Person) -> None:
    customer = shop.customer()
    subscription = shop.subscribed(customer)
    after = {"type": "redirect", "redirect": {"return_url": f"{BACK}?left"}}
    flow = {
        "type": "subscription_cancel",
        "subscription_cancel": {"subscription": subscription.id},
        "after_completion": after,
    }
    page = person.go(shop.portal(customer, flow_data=flow))
    assert "See what it costs" not in page
    assert "Use this card" not in page
    person.send("Cancel at the end")
    assert person.at == f"{BACK}?left"
    item = client.v1.subscriptions.retrieve(subscription.id).to_dict()["items"]["data"][0]["id"]
    confirm = {
        "type": "subscription_update_confirm",
        "subscription_update_confirm": {
            "subscription": subscription.id,
            "items": [{"id": item, "price": shop.prices["Pro"], "quantity": 1}],
        },
        "after_completion": after,
    }
    assert "Change to Pro" in person.go(shop.portal(customer, flow_data=confirm))
    person.send("Confirm")
    assert person.at == f"{BACK}?left"


def test_the_portal_lists_invoices_and_a_failed_payment(stand_in: StripeStandIn, shop: Shop, person: Person) -> None:
    customer = shop.customer()
    shop.subscribed(customer)
    person.go(shop.portal(customer))
    person.send("Use this card", card=DECLINED)
    stand_in.account.clock.advance(32 * 86_400)
    page = person.go(person.at)
    assert "past_due" in page
    assert "The last payment failed. Pay the invoice" in page
    assert "open 10.00 EUR" in page
    assert "paid 10.00 EUR" in page
