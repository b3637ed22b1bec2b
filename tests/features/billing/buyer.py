"""Somebody who buys a plan over HTTP: the forms of our pages, and what they do on Stripe's."""

from __future__ import annotations

import asyncio
import html
import re
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import asyncpg
import httpx

from infra.sandbox.stripe import checkout, payments
from infra.sandbox.stripe.server import StripeStandIn
from infra.sandbox.stripe.store import Obj
from tests.support.client import HIDDEN, Client
from tests.support.factories import Person
from tests.support.stripe import GOOD, Subscriber

NOTICE = re.compile(r'<div class="notice ([a-z]+)".*?<div class="grow[^"]*">(.*?)</div>', re.DOTALL)
TAG = re.compile(r"<[^>]+>")


@dataclass
class Buyer:
    """An admin of an organization with a browser."""

    client: Client
    person: Person
    stripe: StripeStandIn
    superuser: asyncpg.Connection[Any]
    customer: Subscriber | None = None

    async def send(self, verb: str, *, page: str = "/billing", **fields: Any) -> httpx.Response:
        """Send a form of the page with a nonce of its own, unless given; answers the redirect."""
        return await self.client.submit(f"/billing/{verb}", page=page, **{"intent": uuid4().hex, **fields})

    async def choose(self, plan: str) -> str:
        """As far as the Checkout page; the session's id."""
        answer = await self.send("checkout", plan=plan)
        assert answer.status_code == 303, answer.text[:500]
        return self.session_of(answer)

    def session_of(self, answer: httpx.Response) -> str:
        place, _, session = answer.headers["location"].rpartition("/")
        assert place == f"{self.stripe.address}/checkout", answer.headers["location"]
        return session

    def pay(self, session: str, card: str = GOOD) -> Obj:
        with self.stripe.account.lock:
            return checkout.complete(self.stripe.account, session, card)

    def confirm(self, session: str) -> None:
        """Answer the bank's challenge of a Checkout page."""
        with self.stripe.account.lock:
            intent = checkout.challenge(self.stripe.account, session)
            assert intent is not None
            payments.confirm(self.stripe.account, intent, True)

    async def buy(self, plan: str) -> Obj:
        session = await self.choose(plan)
        self.pay(session)
        await self.client.page(f"/billing/success?session_id={session}")
        return self.subscriptions()[0]

    def subscriptions(self) -> list[Obj]:
        """This organization's, newest first."""
        customers = [
            one["id"]
            for one in self.stripe.account.store.of("customer")
            if one["metadata"].get("organization_id") == str(self.person.organization_id)
        ]
        return [one for one in self.stripe.account.store.of("subscription") if one["customer"] in customers]

    async def change(self, plan: str, **fields: Any) -> httpx.Response:
        """Preview, then send the form of the preview."""
        path = f"/billing/change?plan={plan}"
        hidden = dict(HIDDEN.findall(await self.client.page(path)))
        assert "proration_date" in hidden, await self.shown()
        given = {"plan": plan, "proration_date": hidden["proration_date"], **fields}
        return await self.send("change", page=path, **given)

    def charged(self) -> list[int]:
        """What Stripe has taken, in minor units, oldest first."""
        customer = self.subscriptions()[0]["customer"]
        found = self.stripe.account.store.of("charge", customer=customer)
        return [one["amount_captured"] for one in reversed(found) if one["status"] == "succeeded"]

    def now(self) -> int:
        return self.stripe.account.now()

    async def count(self, statement: str, *values: Any) -> int:
        return int(await self.superuser.fetchval(statement, *values))

    async def shown(self, path: str = "/billing") -> str:
        """The words of a page, without the menu."""
        text = await self.client.page(path)
        return words(text[text.index("<main") :])

    async def until(self, sentence: str, path: str = "/billing", seconds: float = 60, *, without: str = "\0") -> str:
        """Ask until one answer says this sentence, and not the other."""
        deadline = time.monotonic() + seconds
        while sentence not in (text := await self.shown(path)) or without in text:
            assert time.monotonic() < deadline, f"{sentence!r} is not in {text}"
            await asyncio.sleep(0.1)
        return text


def words(markup: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(TAG.sub(" ", markup))).strip()


def notices(markup: str) -> list[tuple[str, str]]:
    """(kind, words) of each notice on a page."""
    return [(kind, words(text)) for kind, text in NOTICE.findall(markup)]
