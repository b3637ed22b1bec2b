"""Webhooks as Stripe sends them: an invoice in its own shape, pretty-printed, signed, and no two alike."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import count, cycle

import asyncpg

from infra.sandbox.stripe import catalog, customers, payment_methods, subscriptions
from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import SECRET_KEY, WEBHOOK_SECRET
from infra.sandbox.stripe.signatures import signature
from infra.sandbox.stripe.store import Account
from load.bench.generator import Call
from service.core import clock
from service.core.ids import new_id

PATH = "/webhooks/stripe"
SIZE = 6_500
"""Bytes of a body; an invoice with a few lines has about as many."""


def template() -> bytes:
    """An `invoice.paid`, with EVENT_ID and CUSTOMER where the event's id and its customer's belong."""
    account = Account("http://127.0.0.1", SECRET_KEY, StripeKnobs(), 1)
    with account.lock:
        price = catalog.add_price(
            account,
            {
                "currency": "eur",
                "unit_amount": 1200,
                "recurring": {"interval": "month"},
                "product_data": {"name": "Team"},
            },
        )
        customer = customers.add(account, {})["id"]
        method = payment_methods.attached(account, "pm_card_visa", customer)
        customers.update(account, {"invoice_settings": {"default_payment_method": method["id"]}}, customer)
        subscriptions.create(account, {"customer": customer, "items": [{"price": price["id"]}]})
        [event] = [one for one in account.events.oldest_first() if one.type == "invoice.paid"]
    shown = json.loads(event.body)
    shown["data"]["object"]["description"] = ""
    short = SIZE - len(_pretty(shown))
    shown["data"]["object"]["description"] = "Thank you! " * (short // 11) + "." * (short % 11)
    return _pretty(shown).replace(event.id.encode(), b"EVENT_ID").replace(customer.encode(), b"CUSTOMER")


def _pretty(shown: object) -> bytes:
    return json.dumps(shown, indent=2).encode()


class Deliveries:
    """Requests ready to send to one server. `series` keeps the ids of one run apart from every other's."""

    def __init__(self, people: list[str], host: str, path: str = PATH) -> None:
        self._template = template()
        self._people = people
        self._host = host
        self._path = path

    def fresh(self, series: str) -> Iterator[bytes]:
        """Events that nobody has seen, each about the next customer."""
        for number, customer in zip(count(1), cycle(self._people)):
            yield self._request(f"evt_{series}{number:07}", customer)

    def known(self, series: str, many: int) -> Iterator[bytes]:
        """The first `many` of that series again and again, signed anew as each attempt is."""
        for number, customer in cycle(list(zip(range(1, many + 1), cycle(self._people)))):
            yield self._request(f"evt_{series}{number:07}", customer)

    def _request(self, event_id: str, customer: str) -> bytes:
        body = self._template.replace(b"EVENT_ID", event_id.encode()).replace(b"CUSTOMER", customer.encode())
        headers = {
            "content-type": "application/json; charset=utf-8",
            "stripe-signature": signature(body, [WEBHOOK_SECRET], int(time.time())),
            "user-agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        return Call("POST", self._path, headers, body).encode(self._host)


async def plant_people(superuser: asyncpg.Connection, many: int) -> list[str]:
    """Customers that the service knows, in good standing; their ids at Stripe."""
    people = [(new_id(), f"cus_bench{number:06}") for number in range(many)]
    now = clock.now()
    await superuser.executemany(
        "INSERT INTO organizations (id, name, created_at) VALUES ($1, $2, $3)",
        [(organization, customer, now) for organization, customer in people],
    )
    await superuser.executemany(
        "INSERT INTO billing_customers (id, organization_id, stripe_customer_id, livemode, created_at)"
        " VALUES ($1, $2, $3, false, $4)",
        [(new_id(), organization, customer, now) for organization, customer in people],
    )
    return [customer for _, customer in people]
