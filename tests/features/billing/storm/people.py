"""Who lives through the storm: they buy, change, cancel, leave, fail to pay, and never wait for the weather."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx

from infra.sandbox.stripe import checkout, invoices, refunds
from infra.sandbox.stripe.store import Account, Obj, StripeError
from service.core.context import Caller
from service.core.database import LOST
from service.core.errors import ServiceError
from service.core.redis import LOST as REDIS_LOST
from service.guardrails import sessions
from service.guardrails.permissions import Role
from tests.features.billing.storm.world import World
from tests.support.client import HIDDEN, Client
from tests.support.factories import Factory, Person
from tests.support.stripe import DECLINED, GOOD, Subscriber, make_subscriber

MEMBERS = 4
TURNED_AWAY: tuple[type[Exception], ...] = (httpx.HTTPError, ServiceError, StripeError, *LOST, *REDIS_LOST)
"""What a person sees of a storm: no answer, a page that asks for patience, a card that is refused."""
ENDED = ("canceled", "incomplete_expired")
OTHER = {"team": "business", "business": "team"}


@dataclass
class Household:
    """An organization: an owner who pays, members who may leave, and its customer at Stripe."""

    world: World
    random: Random
    owner: Person
    members: list[Person]
    customer: Subscriber
    customer_id: UUID
    """Ours, of the row that ties it."""
    staff: Person
    epoch: int
    changed: int = 0
    """How often its plan was changed at Stripe without us: each may make one invoice."""
    done: Counter[str] = field(default_factory=Counter)

    @property
    def account(self) -> Account:
        return self.world.stripe.account

    @property
    def organization(self) -> UUID:
        return self.customer.organization

    @property
    def acts(self) -> dict[str, Callable[[], Awaitable[bool]]]:
        return {
            "change": self.change, "change at Stripe": self.change_there, "cancel": self.cancel, "resume": self.resume,
            "cancel there": self.cancel_there, "resume there": self.resume_there, "end": self.end, "leave": self.leave,
            "bad card": self.lose_card, "pay": self.pay, "refund": self.give_back, "refund there": self.give_back_there,
        }  # fmt: skip

    async def live(self) -> None:
        """One act after another, until cancelled; what was refused is forgotten, as people do."""
        while True:
            await asyncio.sleep(self.random.uniform(0.2, 2.5))
            name = self.random.choice(sorted(self.acts))
            act = self.buy if self.subscription() is None else self.acts[name]
            with suppress(*TURNED_AWAY):
                self.done[act.__name__] += await act()

    def subscription(self) -> Obj | None:
        """The one that has not ended."""
        with self.account.lock:
            every = self.account.store.of("subscription", customer=self.customer.customer)
        return next((one for one in every if one["status"] not in ENDED), None)

    def plan(self) -> str:
        held = self.subscription()
        return str(held["items"]["data"][0]["price"]["lookup_key"]).split("_")[1] if held else "free"

    async def buy(self) -> bool:
        answer = await self._send(self.owner, "/billing/checkout", plan=self.random.choice(sorted(OTHER)))
        session = (answer or "").rpartition("/")[2]
        if not session.startswith("cs_"):
            return False
        with self.account.lock:
            checkout.complete(self.account, session, GOOD)
        return True

    async def change(self) -> bool:
        plan = OTHER.get(self.plan(), "team")
        return bool(await self._send(self.owner, "/billing/change", plan=plan))

    async def change_there(self) -> bool:
        if held := self.subscription():
            self.changed += 1
            self.customer.change_to(held, OTHER[self.plan()], proration_behavior="always_invoice")
        return bool(held)

    async def cancel(self) -> bool:
        return bool(await self._send(self.owner, "/billing/cancellation"))

    async def resume(self) -> bool:
        return bool(await self._send(self.owner, "/billing/resumption"))

    async def cancel_there(self) -> bool:
        """As the portal does it: the date, and not the flag."""
        if held := self.subscription():
            self.customer.update(held, cancel_at=held["items"]["data"][0]["current_period_end"])
        return bool(held)

    async def resume_there(self) -> bool:
        if held := self.subscription():
            clear = {"cancel_at_period_end": False} if held["cancel_at_period_end"] else {"cancel_at": ""}
            self.customer.update(held, **clear)
        return bool(held)

    async def end(self) -> bool:
        """At once; rarely, or nobody has anything left to change."""
        if (held := self.subscription()) and self.random.random() < 0.3:
            self.customer.cancel(held)
        return bool(held)

    async def leave(self) -> bool:
        """One seat less."""
        return bool(self.members and await self._send(self.members.pop(), "/organization/departure"))

    async def lose_card(self) -> bool:
        self.customer.use_card(DECLINED)
        return True

    async def pay(self) -> bool:
        """A good card again, and whatever is open paid with it."""
        self.customer.use_card(GOOD)
        with self.account.lock:
            for one in self.account.store.of("invoice", customer=self.customer.customer, status="open"):
                invoices.pay(self.account, one["id"])
        return True

    async def give_back(self) -> bool:
        """By our staff, through an operation."""
        charge = self._charge()
        if charge is None:
            return False
        path = f"/staff/billing/customers/{self.customer_id}/refund"
        return await self._send(self.staff, path, charge=charge["id"], amount="100", reason="Storm, storm") is not None

    async def give_back_there(self) -> bool:
        if charge := self._charge():
            with self.account.lock:
                refunds.refund(self.account, charge, 100)
        return bool(charge)

    def _charge(self) -> Obj | None:
        with self.account.lock:
            every = self.account.store.of("charge", customer=self.customer.customer, status="succeeded")
        return next((one for one in every if one["amount_captured"] - one["amount_refunded"] >= 200), None)

    async def _send(self, person: Person, path: str, **fields: str) -> str | None:
        """Log in anew (the last session may be gone), send a form; where it leads, or None when the answer is no."""
        async with await self._browser(person) as client:
            if path == "/billing/change":
                preview = await client.get(f"/billing/change?plan={fields['plan']}")
                hidden = dict(HIDDEN.findall(preview.text))
                if "proration_date" not in hidden:
                    return None
                fields["proration_date"] = hidden["proration_date"]
            answer = await client.post(path, csrf=client.csrf, intent=uuid4().hex, **fields)
            return answer.headers["location"] if answer.status_code == 303 else None

    async def _browser(self, person: Person) -> Client:
        resources = self.world.resources
        methods = ("password", "totp") if person is self.staff else ("password",)
        token, login = await sessions.begin(
            resources, user_id=person.id, organization_id=person.organization_id, epoch=self.epoch, methods=methods,
            caller=Caller("storm", "127.0.0.1"),
        )  # fmt: skip
        return Client(self.world.url, csrf=login.csrf, cookies={sessions.cookie_name(resources.settings): token})


async def settle_in(world: World, superuser: asyncpg.Connection[Any], seed: int, count: int) -> list[Household]:
    """Plant them; each has chances of its own, so that one more act of one shifts nothing for the others."""
    factory = Factory(superuser, world.resources, world.url)
    staff = await factory.person(Role.OWNER, staff=True)
    epoch = await superuser.fetchval("SELECT session_epoch FROM users WHERE id = $1", staff.id)
    found = []
    for number in range(count):
        owner = await factory.person(Role.OWNER)
        assert owner.organization_id is not None
        members = [await factory.person(Role.MEMBER, owner.organization_id) for _ in range(MEMBERS)]
        await factory.indicator(owner.organization_id)
        customer = await make_subscriber(world.stripe, superuser, owner.organization_id)
        row = await customer.row()
        random = Random(f"{seed}/{number}")
        found.append(Household(world, random, owner, members, customer, row["id"], staff, epoch))
    return found
