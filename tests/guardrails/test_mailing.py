"""Mails are recorded before they are sent, and do not go where mail must not go."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from infra.sandbox.mail import MailKnobs, MailSink
from service.core import clock
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.features import load
from service.core.ids import new_id
from service.features import FEATURES
from service.guardrails import mailing
from service.guardrails.inbox import AcknowledgingPool
from service.guardrails.mailing import FOLLOWS, HOLDS_BACK, Cause, InDoubt, MailState, Reach
from service.integrations.mail import MailFailed
from service.web.mail import deliver


@pytest.fixture(autouse=True)
def _declared() -> None:
    """The mails that features declare beside the jobs that send them."""
    load(FEATURES, "jobs")


@pytest.fixture
def address() -> str:
    return f"m{new_id().hex[-10:]}@example.com"


async def send(resources: Resources, address: str, reference: str) -> None:
    """One run of a job that ends after the mail and before its commit, as a killed worker's does."""
    async with resources.database.unit_of_work(tenant=None) as work:
        ctx = Context(work, resources, SYSTEM, Caller("test"))
        await deliver(ctx, address, "accounts/mail/notice", reference, what="Something.", base_url="https://x.example")
        await work.abandon()


async def suppress(resources: Resources, address: str, cause: Cause) -> bool:
    async with resources.database.unit_of_work(tenant=None) as work:
        return await mailing.suppress(work.raw, address, cause, "5.1.1", clock.now())


async def test_a_job_that_runs_twice_mails_once(resources: Resources, mailbox: MailSink, address: str) -> None:
    for _ in range(2):
        await send(resources, address, f"twice.{address}")
    await send(resources, address, f"another.{address}")
    assert len(mailbox.to(address)) == 2


async def test_no_mail_goes_where_it_came_back(resources: Resources, mailbox: MailSink, address: str) -> None:
    assert await suppress(resources, address.upper(), Cause.BOUNCE)
    await send(resources, f" {address}".strip(), f"held.{address}")
    assert mailbox.to(address) == []


async def test_without_the_record_and_the_list_both_go_wrong(
    resources: Resources, mailbox: MailSink, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def always(*_: object, **__: object) -> bool:
        return True

    async def nothing(*_: object) -> frozenset[Cause]:
        return frozenset()

    await suppress(resources, address, Cause.BOUNCE)
    monkeypatch.setattr(mailing, "claim", always)
    monkeypatch.setattr(mailing, "causes", nothing)
    for _ in range(2):
        await send(resources, address, f"bites.{address}")
    assert len(mailbox.to(address)) == 2


async def test_a_definite_no_is_tried_again_and_a_lost_answer_waits(
    resources: Resources, mailbox: MailSink, address: str
) -> None:
    mailbox.knobs = MailKnobs(reply=451)
    with pytest.raises(MailFailed):
        await send(resources, address, f"later.{address}")
    mailbox.knobs = MailKnobs()
    async with resources.database.unit_of_work(tenant=None) as work:

        async def claim(*, tells_later: bool = True) -> bool:
            return await mailing.claim(work.raw, f"later.{address}", "t", address, tells_later=tells_later)

        assert await claim(), "refused for now: certainly not sent"
        with pytest.raises(InDoubt):
            await claim()
        assert await claim(tells_later=False), "nobody will ever tell: send it again"
        clock.advance(timedelta(seconds=mailing.DOUBT_SECONDS + 1))
        assert await claim()
        await mailing.settle(work.raw, f"later.{address}", MailState.DELIVERED)
        await mailing.settle(work.raw, f"later.{address}", MailState.WAITING)
        assert not await claim(), "news that comes late does not undo what is known"


async def test_what_was_lifted_comes_back_only_with_something_new(resources: Resources, address: str) -> None:
    assert await suppress(resources, address, Cause.COMPLAINT)
    async with resources.database.unit_of_work(tenant=None) as work:
        await work.raw.execute(
            "UPDATE mail_suppressions SET lifted_at = $2 WHERE address_hash = $1",
            mailing.hash_of(address),
            clock.now() + timedelta(minutes=1),
        )
    assert not await suppress(resources, address, Cause.COMPLAINT)
    clock.advance(timedelta(minutes=2))
    assert await suppress(resources, address, Cause.COMPLAINT)


def test_every_state_and_every_reach_has_its_rule() -> None:
    assert set(FOLLOWS) == set(MailState) - {MailState.TRYING}
    assert set(HOLDS_BACK) == set(Reach)
    assert HOLDS_BACK[Reach.ASKED] < HOLDS_BACK[Reach.MUST] < HOLDS_BACK[Reach.NOTICE]


async def test_a_state_that_cannot_be_read_keeps_one_page_waiting_and_not_each(resources: Resources) -> None:
    pool = resources.get(AcknowledgingPool)
    mailing._known.pop(resources, None)
    async with AsyncExitStack() as stack:
        for _ in range(pool.size):
            await stack.enter_async_context(pool.connection())
        work = await stack.enter_async_context(resources.database.unit_of_work(tenant=None))
        ctx = Context(work, resources, SYSTEM, Caller("test"))
        first = asyncio.create_task(mailing.late_since(ctx))
        await asyncio.sleep(0)
        for when in ("while the first asks", "after it has asked in vain"):
            second = asyncio.create_task(mailing.late_since(ctx))
            await asyncio.sleep(0)
            assert second.done(), f"it answered without waiting, {when}"
            assert second.result() is None
            assert await first is None
    mailing._known.pop(resources, None)
