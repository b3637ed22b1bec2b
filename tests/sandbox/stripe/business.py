"""A business with two plans, so that a test can start with its customer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stripe import Customer, Event, Invoice, Price, StripeClient, Subscription

from infra.sandbox.stripe.server import StripeStandIn

BASIC, PRO, YEARLY = 1000, 3000, 30_000
HOUR, DAY = 3600, 86_400


@dataclass
class Business:
    """Prices in cents by month, one by year; helpers that a story reads well with."""

    stand_in: StripeStandIn
    client: StripeClient
    basic: Price
    pro: Price
    yearly: Price

    def customer(self, card: str = "pm_card_visa") -> Customer:
        settings: Any = {"default_payment_method": card} if card else {}
        return self.client.v1.customers.create({"email": "ada@example.com", "invoice_settings": settings})

    def subscribe(self, customer: Customer | None = None, quantity: int = 1, **more: Any) -> Subscription:
        owner = customer or self.customer()
        params: Any = {"customer": owner.id, "items": [{"price": self.basic.id, "quantity": quantity}]}
        return self.client.v1.subscriptions.create(params | more)

    def upgrade(self, subscription: Subscription, **more: Any) -> Subscription:
        params: Any = {"items": [{"id": item(subscription).id, "price": self.pro.id}]}
        params |= {"proration_behavior": "always_invoice", "payment_behavior": "pending_if_incomplete"}
        return self.client.v1.subscriptions.update(subscription.id, params | more)

    def now(self, subscription: Subscription) -> Subscription:
        """As Stripe has it now."""
        return self.client.v1.subscriptions.retrieve(subscription.id)

    def latest_invoice(self, subscription: Subscription) -> Invoice:
        return self.client.v1.invoices.retrieve(str(self.now(subscription).latest_invoice))

    def use_card(self, customer: Any, card: str) -> None:
        """Make it what the customer pays with from now on."""
        owner = customer if isinstance(customer, str) else customer.id
        self.client.v1.customers.update(owner, {"invoice_settings": {"default_payment_method": card}})

    def wait(self, seconds: float) -> None:
        self.stand_in.account.clock.advance(seconds)

    def wait_for_renewal(self, subscription: Subscription, after: int = 0) -> None:
        """Move the clock to the end of the current period, and so much further."""
        self.stand_in.account.clock.advance_to(item(self.now(subscription)).current_period_end + after)

    def events(self, since: int = 0) -> list[Event]:
        """Oldest first, without the first so many."""
        found = [Event.construct_from(one.snapshot(), "") for one in self.stand_in.account.events.oldest_first()]
        return found[since:]

    def types(self, since: int = 0) -> list[str]:
        return [one.type for one in self.events(since)]


def item(subscription: Subscription) -> Any:
    """Its only item."""
    (only,) = subscription.items.data
    return only


def open_business(stand_in: StripeStandIn, client: StripeClient) -> Business:
    product = client.v1.products.create({"name": "Ballast"})

    def price(amount: int, key: str, interval: Any = "month") -> Price:
        return client.v1.prices.create(
            {
                "currency": "eur",
                "unit_amount": amount,
                "recurring": {"interval": interval},
                "product": product.id,
                "lookup_key": key,
            }
        )

    return Business(stand_in, client, price(BASIC, "basic"), price(PRO, "pro"), price(YEARLY, "pro_yearly", "year"))
