"""Limits: they count, the attacks on them fail, and without the one line that matters the attack succeeds."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from infra.sandbox.redis import EmbeddedRedis
from service.core import clock
from service.core.buckets import Bucket, Counted, LocalBuckets
from service.core.context import Resources
from service.core.errors import TooManyRequests
from service.core.scripts import now_ms
from service.guardrails import rate_limits
from service.guardrails.rate_limits import API, LOGIN, MAIL, READ, WRITE, Policy, limit, policy_of, refund, spend
from tests.guardrails.instances import hung, instance, later, page

FIVE = Policy("five", "closed", subject="5/15 minutes")


async def admitted(resources: Resources, policy: Policy, times: int, **target: Any) -> int:
    """How many of `times` attempts get through."""
    through = 0
    for _ in range(times):
        try:
            await spend(resources, policy, **target)
            through += 1
        except TooManyRequests:
            continue
    return through


async def refused(resources: Resources, policy: Policy, **target: Any) -> TooManyRequests:
    with pytest.raises(TooManyRequests) as caught:
        await spend(resources, policy, **target)
    return caught.value


# The table


def credentials() -> list[Policy]:
    return [rate_limits.LOGIN, rate_limits.SECOND_FACTOR, rate_limits.MAIL, rate_limits.INVITATION, rate_limits.TOKEN,
            rate_limits.SIGN_UP, rate_limits.STEP_UP]  # fmt: skip


def test_whatever_guards_a_credential_stays_closed_without_redis_and_tells_no_numbers() -> None:
    assert len(credentials()) == 7
    for policy in credentials():
        assert (policy.when_lost, policy.headers) == ("closed", False), policy.name


def test_every_policy_says_what_it_counts_by_address() -> None:
    table = [one for one in vars(rate_limits).values() if isinstance(one, Policy)]
    assert len(table) == 19
    # Counted for an organization whose route counts addresses already, for a sender that has no address of its own, and
    # by an address of its own besides (a pair of nobody and the address).
    assert [one.name for one in table if not one.address] == ["plan-change", "unsigned", "invalid-key"]
    assert len({one.name for one in table}) == len(table), "two policies of one name would share their buckets"


def test_a_limit_that_cannot_be_read_does_not_start() -> None:
    with pytest.raises(ValueError, match="parse"):
        Policy("typo", "open", address="five per minute or so")
    with pytest.raises(ValueError, match="distinct"):
        Policy("no-pair", "open", distinct="5/hour")


def test_a_route_gets_its_own_policy_or_the_default_of_its_kind() -> None:
    @limit(LOGIN)
    def log_in() -> None: ...

    def readings() -> None: ...

    readings.__module__ = "service.features.indicators.api"
    assert policy_of(log_in, "POST") is LOGIN
    assert [policy_of(page, method) for method in ("GET", "HEAD", "POST", "DELETE")] == [READ, READ, WRITE, WRITE]
    assert [policy_of(readings, method) for method in ("GET", "PATCH")] == [API, API]


# Counting


async def test_a_burst_is_admitted_then_refused_with_the_time_to_wait(here: Resources) -> None:
    assert await admitted(here, FIVE, 5, subject="ann") == 5
    error = await refused(here, FIVE, subject="ann")
    assert error.retry_after == pytest.approx(180, abs=5)
    assert error.mend == f"Try again in {-(-(error.retry_after or 0) // 60)} minutes.", "people see no header"
    assert await admitted(here, FIVE, 1, subject="bob") == 1


async def test_what_was_used_comes_back_with_time(here: Resources) -> None:
    await admitted(here, FIVE, 5, subject="ann")
    later(minutes=3.1)
    assert await admitted(here, FIVE, 5, subject="ann") == 1
    later(minutes=15)
    assert await admitted(here, FIVE, 9, subject="ann") == 5


async def test_refused_attempts_cost_nothing_so_nobody_is_kept_out_for_ever(here: Resources) -> None:
    await admitted(here, FIVE, 100, subject="ann")
    error = await refused(here, FIVE, subject="ann")
    later(seconds=error.retry_after or 0)
    assert await admitted(here, FIVE, 1, subject="ann") == 1


async def test_a_refusal_in_one_bucket_counts_in_none(here: Resources) -> None:
    both = Policy("both", "closed", pair="2/hour", subject="3/hour")
    assert await admitted(here, both, 9, subject="ann", address="198.51.100.1") == 2
    assert await admitted(here, both, 9, subject="ann", address="198.51.100.2") == 1


async def test_parallel_attempts_cannot_outrun_the_count(here: Resources) -> None:
    tries = [spend(here, FIVE, subject="ann") for _ in range(40)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(one) for one in outcomes].count(TooManyRequests) == 35

    async def look_then_count() -> bool:  # bites: the same limit as two steps
        used = int(await here.redis.get("naive") or 0)
        if used < 5:
            await here.redis.incr("naive")
        return used < 5

    assert sum(await asyncio.gather(*(look_then_count() for _ in range(40)))) > 5


async def test_two_instances_count_together(redis: EmbeddedRedis) -> None:
    async with instance(redis, "shared") as one, instance(redis, "shared") as other:
        assert await admitted(one, FIVE, 3, subject="ann") + await admitted(other, FIVE, 9, subject="ann") == 5


async def test_a_clock_that_was_set_back_locks_nobody_out(here: Resources) -> None:
    later(days=2)
    await admitted(here, FIVE, 5, subject="ann")
    clock.reset()
    assert await admitted(here, FIVE, 5, subject="ann") == 5


# Guessing at an account


async def test_guessing_at_one_account_from_everywhere_is_slowed_down(here: Resources) -> None:
    botnet = [f"198.51.{high}.{low}" for high in range(4) for low in range(20)]
    through = [await admitted(here, LOGIN, 1, subject="ann@example.com", address=bot) for bot in botnet]
    assert sum(through) == 50
    by_address_alone = Policy("bites", "closed", pair="5/15 minutes")
    through = [await admitted(here, by_address_alone, 1, subject="ann@example.com", address=bot) for bot in botnet]
    assert sum(through) == 80


async def test_the_owner_still_gets_in_while_the_account_is_under_attack(here: Resources) -> None:
    for bot in range(60):
        await admitted(here, LOGIN, 1, subject="ann@example.com", address=f"198.51.100.{bot}")
    behind_her_router = {"subject": "ann@example.com", "address": "203.0.113.7"}
    assert await admitted(here, Policy("login", "closed", pair=LOGIN.pair), 9, **behind_her_router) == 5
    stranger = await refused(here, LOGIN, **behind_her_router)
    assert 0 < (stranger.retry_after or 0) <= 3600, "a delay, not a lock"
    await spend(here, LOGIN, **behind_her_router, device="her-laptop")


async def test_a_known_device_is_no_way_around_the_limit(here: Resources) -> None:
    assert await admitted(here, LOGIN, 9, subject="ann@example.com", address="203.0.113.7", device="stolen") == 5


async def test_trying_one_password_on_many_accounts_is_noticed(here: Resources) -> None:
    spraying = [await admitted(here, LOGIN, 1, subject=f"{n}@example.com", address="198.51.100.9") for n in range(30)]
    assert sum(spraying) == 10
    office = "198.51.100.8"
    assert await admitted(here, LOGIN, 4, subject="ann@example.com", address=office) == 4
    others = [await admitted(here, LOGIN, 1, subject=f"{n}@example.com", address=office) for n in range(30)]
    assert sum(others) == 9, "one person's typing errors count as one account"


async def test_success_takes_back_its_own_attempt_and_nothing_else(here: Resources) -> None:
    office = {"address": "198.51.100.9"}
    for n in range(30):
        await spend(here, LOGIN, subject=f"{n}@example.com", **office)
        await refund(here, LOGIN, subject=f"{n}@example.com", **office)
    assert await admitted(here, LOGIN, 4, subject="ann@example.com", **office) == 4
    # An attacker who logs in to an account of his own in between gains nothing.
    await spend(here, LOGIN, subject="mallory@example.com", **office)
    await refund(here, LOGIN, subject="mallory@example.com", **office)
    assert await admitted(here, LOGIN, 9, subject="ann@example.com", **office) == 1


async def test_spellings_of_one_address_share_their_attempts(here: Resources) -> None:
    spellings = ["ann@example.com", "ANN@example.com", " ann@Example.com ", "\uff41nn@example.com", "ann@example.COM"]
    assert sum([await admitted(here, MAIL, 1, subject=one) for one in spellings]) == 3


async def test_redis_does_not_say_whose_account_was_tried(here: Resources) -> None:
    await spend(here, LOGIN, subject="ann@example.com", address="203.0.113.7")
    names = [key.decode() async for key in here.redis.scan_iter(f"{here.settings.redis_namespace}:*", count=1000)]
    assert len(names) == 5  # pair, distinct, subject, everyone, and who of late tried this one
    assert not [name for name in names if "ann" in name]


# Without Redis


async def test_a_lost_redis_leaves_guessing_a_tenth_and_reading_all(redis: EmbeddedRedis) -> None:
    closed = Policy("shut", "closed", subject="50/hour")
    reading = Policy("reading", "open", subject="50/hour")
    async with instance(redis, redis_timeout_ms=50) as here:
        with hung(redis):
            assert await admitted(here, closed, 60, subject="ann") == 5
            assert await admitted(here, reading, 60, subject="ann") == 50
            as_if_open = Policy("bites", "open", subject="50/hour")
            assert await admitted(here, as_if_open, 60, subject="ann") == 50


def bucket(name: str, limit_: int = 10) -> Bucket:
    return Bucket(name, "", limit_, 60_000)


def test_counting_in_memory_is_bounded() -> None:
    local, now = LocalBuckets(most=1_000), 1_000_000
    assert local.count([bucket("known")], now, 1, closed=True).wait == 0
    for n in range(50_000):
        local.count([bucket(f"attacker-{n}")], now, 1, closed=False)
    assert len(local.empty_at) == 1_000
    assert local.count([bucket("somebody")], now, 1, closed=False).wait == 0
    assert local.count([bucket("login")], now, 1, closed=True).wait > 0, "no memory to count in: guessing stays shut"
    assert local.count([bucket("known")], now, 1, closed=True).wait > 0
    assert local.count([bucket("known")], now + 45_000, 1, closed=True).wait == 0, "whoever is known still counts"
    assert local.count([bucket("login")], now + 60_000, 1, closed=True).wait == 0, "what has emptied makes room"


async def test_redis_and_memory_count_alike(here: Resources) -> None:
    chance, hour, waits = random.Random(7), 3_600_000, 0
    for run in range(20):
        local, now = LocalBuckets(), now_ms()
        for _ in range(40):
            now += chance.choice([0, 0, 0, 1, hour // 25, hour // 7])
            buckets = [
                Bucket(f"{run}-{chance.choice('ab')}", "", 7, hour),
                Bucket(f"{run}-all", "", 11, hour),
            ]
            step, arguments = chance.choice([1, 1, 1, -1]), [value for one in buckets for value in one]
            theirs = Counted(*await rate_limits.SPEND.run(here, now, step, *arguments))
            ours = local.count(buckets, now, step, closed=False)
            assert theirs[1:3] == ours[1:3]
            assert theirs.wait == pytest.approx(ours.wait, abs=2)
            waits += theirs.wait > 0
    assert waits > 40, "the runs must reach the limit, or they compare nothing"
