"""The door while Redis hangs, dies, refuses and comes back: never a wrong answer, never a stopped event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis as blocking_redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from infra.sandbox.redis import EmbeddedRedis
from service.core.context import Resources
from service.core.errors import TooManyRequests, Unavailable
from service.core.ids import new_id
from service.core.scripts import PATIENCE, PAUSE_SECONDS, Breaker, breaker_of
from service.guardrails import gate
from service.guardrails.rate_limits import Policy, limit
from tests.guardrails.instances import comes_true, failed_redis_calls, heartbeat, hung, instance, log_in, request

# By the hour, so that nothing comes back while a slow machine is still counting.
TIGHT = Policy("tight", "open", address="3/hour", headers=True)
GUESSING = Policy("guessing", "closed", address="30/hour")


@limit(TIGHT)
def tight() -> None: ...


@limit(GUESSING)
def guessing() -> None: ...


@asynccontextmanager
async def impatient(redis: EmbeddedRedis, timeout_ms: int) -> AsyncIterator[tuple[Resources, str]]:
    """A process that waits this long for Redis, and the cookie of a session that a patient one has begun."""
    space = new_id().hex
    async with instance(redis, space) as patient, instance(redis, space, redis_timeout_ms=timeout_ms) as here:
        yield here, (await log_in(patient))[0]


async def admitted(resources: Resources, times: int, **values: Any) -> int:
    through = 0
    for _ in range(times):
        try:
            await gate.enter(request(**values), resources)
            through += 1
        except TooManyRequests:
            continue
    return through


async def test_a_dead_redis_logs_nobody_in_and_nobody_out(tmp_path: Any) -> None:
    with EmbeddedRedis(tmp_path / "redis") as redis:
        async with instance(redis) as here:
            token, login = await log_in(here)
            redis.kill()
            with pytest.raises(Unavailable) as caught:
                await gate.enter(request(token), here)
            assert caught.value.retry_after == 5
            assert await gate.enter(request(token), here, identify=False) is None, "a public page still answers"
            assert await gate.enter(request(), here) is None
            assert await admitted(here, 9, endpoint=tight) == 3, "open: this process counts alone"
            assert await admitted(here, 9, endpoint=guessing) == 3, "closed: a tenth"
            redis.start()

            async def known_again() -> bool:
                try:
                    return await gate.enter(request(token), here) == login
                except Unavailable:
                    return False

            assert await comes_true(known_again)
            assert not breaker_of(here).is_open


async def test_a_hung_redis_does_not_stop_the_event_loop(redis: EmbeddedRedis) -> None:
    async with impatient(redis, 400) as (here, token):
        with hung(redis):
            async with heartbeat() as heart:
                with pytest.raises(Unavailable):
                    await gate.enter(request(token), here)
            assert heart.beats >= 8, "others were served while one waited"

            # Bites: this is how slowapi asks Redis.
            client = blocking_redis.Redis(port=redis.port, socket_timeout=0.4, retry=Retry(NoBackoff(), 0))
            async with heartbeat() as heart:
                with pytest.raises(blocking_redis.exceptions.TimeoutError):
                    client.get("x")
            assert heart.beats == 0
            client.close()


async def test_a_hung_redis_costs_a_few_requests_one_timeout_each(redis: EmbeddedRedis) -> None:
    async with impatient(redis, 100) as (here, token):
        with hung(redis):
            before, began = failed_redis_calls(), time.monotonic()
            for _ in range(200):
                with pytest.raises(Unavailable):
                    await gate.enter(request(token), here)
            probes = (time.monotonic() - began) / PAUSE_SECONDS
            assert PATIENCE <= failed_redis_calls() - before <= PATIENCE + probes

        async def known_again() -> bool:
            try:
                return await gate.enter(request(token), here) is not None
            except Unavailable:
                return False

        assert await comes_true(known_again)


async def test_while_redis_is_silent_one_call_a_pause_goes_and_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.core.scripts.PAUSE_SECONDS", 1.0)
    breaker = Breaker()
    for _ in range(PATIENCE):
        assert breaker.admits()
        breaker.failed()
    assert not breaker.admits()
    await asyncio.sleep(1.1)
    assert [breaker.admits() for _ in range(10)] == [True] + [False] * 9
    breaker.worked()
    assert breaker.admits()


async def test_waiting_for_a_connection_counts_towards_the_timeout(redis: EmbeddedRedis) -> None:
    """redis-py's own timeouts are per step and add up: wait for a connection, connect, greet, send, read."""
    async with impatient(redis, 2_000) as (here, token):
        pool: Any = here.redis.connection_pool
        taken = [await pool.get_connection() for _ in range(pool.max_connections)]
        with hung(redis):
            began = time.monotonic()
            waiting = asyncio.create_task(gate.enter(request(token), here))
            await asyncio.sleep(1.7)
            await pool.release(taken.pop())
            with pytest.raises(Unavailable):
                await waiting
            waited = time.monotonic() - began
        for connection in taken:
            await pool.release(connection)
    assert 1.9 < waited < 3.6, "without a deadline over all steps: 3.7"


async def test_a_guess_is_refused_and_not_waved_through_while_redis_hangs(redis: EmbeddedRedis) -> None:
    async with instance(redis, redis_timeout_ms=50) as here:
        with hung(redis):
            assert await admitted(here, 40, endpoint=guessing) == 3
            waved = limit(Policy("bites", "open", address="30/hour"))(lambda: None)
            assert await admitted(here, 40, endpoint=waved) == 30


async def test_a_redis_that_refuses_to_write_fails_closed_too(here: Resources) -> None:
    token, _ = await log_in(here)
    limits: Any = await here.redis.config_get("maxmemory")
    await here.redis.config_set("maxmemory", 1)
    try:
        for _ in range(PATIENCE + 1):
            with pytest.raises(Unavailable):
                await gate.enter(request(token), here)
        assert not breaker_of(here).is_open, "it answers quickly: nothing to save by not asking"
    finally:
        await here.redis.config_set("maxmemory", int(limits["maxmemory"]))
    assert await gate.enter(request(token), here)


async def test_a_request_that_is_given_up_leaves_the_pool_in_order(here: Resources) -> None:
    token, login = await log_in(here)
    for delay in range(12):
        task = asyncio.create_task(gate.enter(request(token), here))
        for _ in range(delay):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for _ in range(60):
        assert await gate.enter(request(token), here) == login
    assert len(here.redis.connection_pool._in_use_connections) == 0
