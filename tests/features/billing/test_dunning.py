"""Mails about money: one per fact and person, whatever is repeated, and none about what is no longer so."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import asyncpg
import pytest

from infra.sandbox.mail import MailKnobs, MailSink
from infra.sandbox.stripe import invoices
from infra.sandbox.stripe.clock import DAY, HOUR
from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from service.guardrails.permissions import Role
from tests.features.billing.conftest import Subscribe
from tests.support.factories import Factory, Person
from tests.support.stripe import CHALLENGED, DECLINED, GOOD, Subscriber, price_of

Superuser: TypeAlias = "asyncpg.Connection[Any]"
REPEATED = {"duplicate": 1.0, "twin": 1.0, "reorder_window": 0.3}
FAILED, RECOVERED, CONFIRM = "did not go through", "is paid", "confirm a payment"
MONTH = 31 * DAY
NO_PAUSES = """
    WITH due AS (
        UPDATE pgqueuer SET execute_after = now()
        WHERE headers ->> 'tenant' = $1 AND status = 'queued' AND execute_after > now() RETURNING id
    )
    SELECT pg_notify('ch_pgqueuer', json_build_object('channel', 'ch_pgqueuer', 'operation', 'update', 'sent_at', now(),
        'table', 'pgqueuer', 'type', 'table_changed_event')::text) FROM due
"""


@dataclass
class Payer:
    """A customer and whoever may hear of its money."""

    customer: Subscriber
    owner: Person
    admin: Person
    member: Person
    mailbox: MailSink

    def advance(self, seconds: float) -> None:
        self.customer.stand_in.account.clock.advance(seconds)

    def subjects(self, person: Person | None = None) -> Counter[str]:
        return Counter(mail.subject for mail in self.mailbox.to((person or self.owner).email))

    def count(self, words: str, person: Person | None = None) -> int:
        return sum(count for subject, count in self.subjects(person).items() if words in subject)

    async def outcomes(self) -> dict[str, str | None]:
        rows = await self.customer.superuser.fetch(
            "SELECT effect_key, outcome FROM billing_effects WHERE organization_id = $1", self.customer.organization
        )
        return {row["effect_key"]: row["outcome"] for row in rows}

    async def told(self, seconds: float = 60) -> dict[str, str | None]:
        """Everything is read, and every job about this organization is done."""
        await self.customer.settled(seconds)
        deadline = time.monotonic() + seconds
        waiting = "SELECT count(*) FROM pgqueuer WHERE headers ->> 'tenant' = $1 AND status <> 'failed'"
        while await self.customer.superuser.fetchval(waiting, str(self.customer.organization)):
            assert time.monotonic() < deadline, "jobs still wait"
            await self.pass_time()
        return await self.outcomes()

    async def pass_time(self) -> None:
        """A moment, in which the pause ends that a job makes between two attempts: it doubles each time."""
        await self.customer.superuser.execute(NO_PAUSES, str(self.customer.organization))
        await asyncio.sleep(0.2)

    async def replay(self) -> None:
        """Every event of this customer once more, with a fresh signature, and a reading besides."""
        courier = self.customer.stand_in.account.courier
        for event in list(self.customer.stand_in.account.events.newest_first()):
            if event.customer == self.customer.customer:
                courier.resend(event)
        await self.customer.superuser.execute(
            "UPDATE billing_customers SET dirty_gen = dirty_gen + 1 WHERE stripe_customer_id = $1",
            self.customer.customer,
        )


MakePayer = Callable[..., Awaitable[Payer]]


@pytest.fixture
async def payer(
    subscriber: Subscribe, factory: Factory, mailbox: MailSink, stripe: StripeStandIn
) -> AsyncIterator[MakePayer]:
    async def make(**options: Any) -> Payer:
        stripe.account.clock.ahead = 0.0  # other tests have lived through years
        owner = await factory.person(Role.OWNER)
        admin = await factory.person(Role.ADMIN, owner.organization_id)
        member = await factory.person(Role.MEMBER, owner.organization_id)
        customer = await subscriber(organization=owner.organization_id, **options)
        return Payer(customer, owner, admin, member, mailbox)

    yield make
    mailbox.knobs = MailKnobs()


def to_renewal(payer: Payer) -> None:
    """Past the end of the month and the hour in which the invoice is a draft."""
    payer.advance(MONTH)
    payer.advance(2 * HOUR)


async def test_scenario_47_a_trial_that_ends_is_told_once(payer: MakePayer, stripe: StripeStandIn) -> None:
    one = await payer()
    stripe.knobs = StripeKnobs(**REPEATED)
    items = [{"price": price_of(stripe, "team"), "quantity": "3"}]
    subscription = one.customer.subscribe(items=items, trial_end=str(int(time.time()) + 2 * DAY))
    [(key, outcome)] = (await one.told()).items()
    assert key == f"trial_ending:{subscription['id']}:{subscription['trial_end']}"
    assert outcome == "sent"
    await one.replay()
    await one.told()
    for person in (one.owner, one.admin):
        assert one.count("Your trial of Team ends on", person) == 1
    assert not one.subjects(one.member)
    [mail] = one.mailbox.to(one.owner.email)
    assert "costs €36.00 per month, and" in mail.text
    assert "/billing" in mail.text


async def test_scenario_47_a_trial_with_weeks_left_or_cancelled_is_not_told(payer: MakePayer) -> None:
    long, off = await payer(), await payer()
    long.customer.subscribe("team", trial_end=str(int(time.time()) + 10 * DAY))
    subscription = off.customer.subscribe("team", trial_end=str(int(time.time()) + 10 * DAY))
    off.customer.update(subscription, cancel_at_period_end=True)
    await off.told()
    off.customer.update(subscription, trial_end=str(int(time.time()) + DAY))
    assert await long.told() == {}
    assert list((await off.told()).values()) == ["superseded"]
    assert not long.subjects() + off.subjects()


async def test_scenario_50_each_failed_attempt_is_told_once_and_so_is_the_recovery(
    payer: MakePayer, stripe: StripeStandIn
) -> None:
    """Also scenarios 2 and 4: delivered twice, and made twice with different ids."""
    one = await payer()
    one.customer.subscribe("team")
    await one.told()
    stripe.knobs = StripeKnobs(**REPEATED)
    one.customer.use_card(DECLINED)
    to_renewal(one)
    await one.told()
    assert one.count(FAILED) == one.count(FAILED, one.admin) == 1
    one.advance(3 * DAY + HOUR)
    await one.told()
    assert one.count(FAILED) == 2
    assert await one.customer.plan() == "team", "days of grace"
    await one.replay()
    await one.told()
    assert one.count(FAILED) == 2

    one.customer.use_card(GOOD)
    one.advance(5 * DAY + HOUR)
    outcomes = await one.told()
    assert set(outcomes.values()) == {"sent"}
    assert sorted(key.partition(":")[0] for key in outcomes) == ["payment_failed", "payment_failed", "recovered"]
    await one.replay()
    await one.told()
    assert (one.count(FAILED), one.count(RECOVERED)) == (2, 1)
    assert not one.subjects(one.member)


async def test_scenario_50_an_attempt_in_the_second_week_is_told_as_well(
    payer: MakePayer, stripe: StripeStandIn
) -> None:
    """Stripe tries for two weeks and more, and an invoice is as old as its first attempt."""
    one = await payer()
    one.customer.subscribe("team")
    await one.told()
    one.customer.use_card(DECLINED)
    to_renewal(one)
    await one.told()
    with stripe.account.lock:
        stripe.account.store.of("invoice", customer=one.customer.customer)[0]["created"] = int(time.time()) - 10 * DAY
    one.advance(3 * DAY + HOUR)
    assert set((await one.told()).values()) == {"sent"}
    assert one.count(FAILED) == 2


async def test_scenario_52_a_failure_that_was_paid_before_the_mail_could_leave_is_not_told(
    payer: MakePayer, stripe: StripeStandIn, superuser: Superuser
) -> None:
    one = await payer()
    one.customer.subscribe("team")
    await one.told()
    one.mailbox.knobs = MailKnobs(hang_up=True)
    one.customer.use_card(DECLINED)
    to_renewal(one)
    await one.customer.settled()
    invoice = await superuser.fetchval(
        "SELECT stripe_id FROM billing_invoices WHERE organization_id = $1 AND status = 'open'",
        one.customer.organization,
    )
    with stripe.account.lock:
        invoices.pay(stripe.account, invoice, GOOD)
    await one.customer.settled()
    one.mailbox.knobs = MailKnobs()
    outcomes = await one.told(45)
    assert outcomes[f"payment_failed:{invoice}:1"] == "superseded"
    assert one.count(FAILED) == 0

    late = next(event for event in stripe.account.events.newest_first() if event.type == "invoice.payment_failed")
    stripe.account.courier.resend(late)
    assert await one.told() == outcomes, "the event of the first attempt, after the second"
    assert one.count(FAILED) == 0


async def test_no_mail_leaves_while_something_is_unread(payer: MakePayer, superuser: Superuser) -> None:
    """The news that waits may be that they have paid."""
    one = await payer()
    one.customer.subscribe("team")
    await one.told()
    one.customer.use_card(DECLINED)
    await one.told()
    waiting = """
        SELECT attempts FROM pgqueuer
        WHERE headers ->> 'tenant' = $1 AND headers ->> 'error' = 'StillReading' AND attempts > $2
    """
    one.mailbox.knobs = MailKnobs(hang_up=True)
    to_renewal(one)
    await one.customer.settled()
    await superuser.execute(
        "UPDATE billing_customers SET dirty_gen = dirty_gen + 1, next_attempt_at = now() + interval '1 hour'"
        " WHERE stripe_customer_id = $1",
        one.customer.customer,
    )
    attempts = 0
    for knobs in (one.mailbox.knobs, MailKnobs()):  # the second time without an attempt that had begun before
        one.mailbox.knobs = knobs
        deadline = time.monotonic() + 60
        while (attempted := await superuser.fetchval(waiting, str(one.customer.organization), attempts)) is None:
            assert time.monotonic() < deadline
            await one.pass_time()
        attempts = attempted
    assert one.count(FAILED) == 0
    await superuser.execute("UPDATE billing_customers SET next_attempt_at = now() WHERE dirty_gen > synced_gen")
    await one.told(60)
    assert one.count(FAILED) == 1


async def test_scenario_39_a_payment_that_wants_confirming_is_told_as_that(payer: MakePayer) -> None:
    one = await payer()
    one.customer.subscribe("team")
    await one.told()
    one.customer.use_card(CHALLENGED)
    to_renewal(one)
    outcomes = await one.told()
    assert [key.partition(":")[0] for key in outcomes] == ["action_required"]
    assert (one.count(CONFIRM), one.count(FAILED)) == (1, 0)


async def test_an_end_is_told_once_unless_another_plan_took_its_place(payer: MakePayer) -> None:
    one, moved = await payer(), await payer()
    one.customer.cancel(one.customer.subscribe("business"))
    first = moved.customer.subscribe("team")
    moved.customer.subscribe("business")
    moved.customer.cancel(first)
    assert list((await one.told()).values()) == ["sent"]
    assert list((await moved.told()).values()) == ["superseded"]
    await one.replay()
    await one.told()
    assert one.count("The Business plan of") == 1
    assert not moved.subjects()


async def test_where_nobody_may_hear_of_it_the_fact_is_settled_all_the_same(
    subscriber: Subscribe, factory: Factory, mailbox: MailSink
) -> None:
    alone = await factory.person(Role.MEMBER)
    customer = await subscriber(organization=alone.organization_id)
    customer.cancel(customer.subscribe("team"))
    assert list((await Payer(customer, alone, alone, alone, mailbox).told()).values()) == ["nobody"]
    assert not mailbox.to(alone.email)
