"""The Redis client: no retries, and one deadline per call (core.scripts), so that a hung Redis costs one timeout.

Redis holds sessions, limits and half-finished logins: never the only copy of a truth.
"""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from service.core.regions import everywhere
from service.core.settings import Settings

REACH = everywhere("one Redis, at home: sessions and limits, with ids of people and organizations")

LOST: tuple[type[Exception], ...] = (RedisError, OSError, TimeoutError)
"""What a call raises when Redis is away, full, read-only or too slow."""


def create_redis(settings: Settings) -> Redis:
    """A client on a bounded pool. redis-py's own defaults (5 s, 10 retries) would hold a request for a minute.

    Its time-outs are per step, three in each call, and are off: whoever calls sets one deadline around all of them.
    """
    pool = BlockingConnectionPool.from_url(
        settings.redis_url.get_secret_value(),
        max_connections=50,
        timeout=None,
        socket_timeout=None,
        socket_connect_timeout=settings.redis_timeout_ms / 1000,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )
    return Redis.from_pool(pool)  # owns the pool: closing the client closes its connections
