"""A small shop at the stand-in: two plans, a customer, and a person's browser without scripts."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
from stripe import StripeClient

SUCCESS = "http://shop.example/done?session={CHECKOUT_SESSION_ID}"
BACK = "http://shop.example/plans"
GOOD, DECLINED, CHALLENGED = "pm_card_visa", "pm_card_chargeCustomerFail", "pm_card_authenticationRequired"


@dataclass
class Shop:
    """What a test of the pages needs of the API."""

    client: StripeClient
    prices: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, amount in (("Basic", 1000), ("Pro", 3000)):
            product = self.client.v1.products.create({"name": name})
            price = self.client.v1.prices.create(
                {
                    "product": product.id,
                    "unit_amount": amount,
                    "currency": "eur",
                    "recurring": {"interval": "month"},
                    "lookup_key": name.lower(),
                }
            )
            self.prices[name] = price.id

    def customer(self) -> str:
        return self.client.v1.customers.create({"email": "ada@example.com", "name": "Ada & Co"}).id

    def checkout(self, **more: Any) -> Any:
        params: Any = {
            "mode": "subscription",
            "success_url": SUCCESS,
            "cancel_url": BACK,
            "line_items": [{"price": self.prices["Basic"], "quantity": 2}],
        }
        return self.client.v1.checkout.sessions.create(params | more)

    def subscribed(self, customer: str, card: str = GOOD) -> Any:
        method = self.client.v1.payment_methods.attach(card, {"customer": customer})
        self.client.v1.customers.update(customer, {"invoice_settings": {"default_payment_method": method.id}})
        return self.client.v1.subscriptions.create(
            {"customer": customer, "items": [{"price": self.prices["Basic"], "quantity": 1}]}
        )

    def portal(self, customer: str, **more: Any) -> str:
        params: Any = {"customer": customer, "return_url": BACK, **more}
        return self.client.v1.billing_portal.sessions.create(params).url


class Person:
    """Reads pages, fills in the form that leads to a path, and follows where it leads, but not out to the shop."""

    def __init__(self) -> None:
        self.http = httpx.Client()
        self.at = ""
        self.text = ""
        self.status = 0
        self.policy = ""

    def go(self, url: str) -> str:
        """Open a page; answers its text without tags."""
        return self._arrive(self.http.get(url))

    def send(self, button: str = "", action: str = "", **fields: str) -> str:
        """Press the button with this label in the form with this action; answers the next page's text."""
        form = next(one for one in self._forms() if (not action or one.action.endswith(action)) and one.has(button))
        missing = [name for name in fields if f'name="{name}"' not in form.body]
        assert not missing, f"a person cannot fill in what is not there: {missing}"
        values = form.hidden | form.pressed(button) | fields
        return self._arrive(self.http.post(httpx.URL(self.at).join(form.action or self.at), data=values))

    def _arrive(self, answer: httpx.Response) -> str:
        while answer.is_redirect:
            target = str(answer.next_request.url) if answer.next_request else ""
            if urlsplit(target).hostname == "shop.example":
                assert "http://shop.example" in self.policy, "the page's policy must let its form lead there"
                self.at, self.text, self.status = target, "", answer.status_code
                return ""
            answer = self.http.get(target)
        self.at, self.status = str(answer.url), answer.status_code
        self.text, self.policy = answer.text, answer.headers.get("Content-Security-Policy", "")
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())

    def _forms(self) -> list[_Form]:
        found = re.findall(r"<form([^>]*)>(.*?)</form>", self.text, re.DOTALL)
        return [_Form(html.unescape(_attribute(head, "action")), body) for head, body in found]


@dataclass(frozen=True)
class _Form:
    action: str
    body: str

    @property
    def buttons(self) -> list[tuple[str, str]]:
        return re.findall(r"<button([^>]*)>(.*?)</button>", self.body, re.DOTALL)

    def has(self, label: str) -> bool:
        return any(label in text for _, text in self.buttons)

    @property
    def hidden(self) -> dict[str, str]:
        fields = re.findall(r'<input type="hidden"([^>]*)>', self.body)
        return {_attribute(one, "name"): html.unescape(_attribute(one, "value")) for one in fields}

    def pressed(self, label: str) -> dict[str, str]:
        head = next(head for head, text in self.buttons if label in text)
        return {_attribute(head, "name"): _attribute(head, "value")} if _attribute(head, "name") else {}


def _attribute(head: str, name: str) -> str:
    found = re.search(rf'{name}="([^"]*)"', head)
    return found[1] if found else ""
