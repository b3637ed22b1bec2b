"""Who works on which customer: a lease keeps two workers from reading the same state, the version from writing it.

A lease that ran out (a killed worker, a machine that stood still for a minute) only means double work. It is no lock:
whoever wakes up late still loses the compare-and-set in apply.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import uniform
from typing import Any
from uuid import UUID

import asyncpg

from service.core.ids import new_id

LEASE_SECONDS = 30
ATTEMPTS = 12
FIRST, LONGEST = timedelta(seconds=5), timedelta(minutes=30)

CLAIM = f"""
    WITH due AS (
        SELECT id FROM billing_customers
        WHERE dirty_gen > synced_gen AND livemode = $3 AND (dead_at IS NULL OR $4::uuid IS NOT NULL)
          AND (lease_until IS NULL OR lease_until < now())
          AND CASE WHEN $4::uuid IS NULL THEN next_attempt_at <= now() ELSE id = $4 END
        ORDER BY next_attempt_at LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    UPDATE billing_customers AS claimed
    SET lease_token = $1, lease_until = now() + interval '{LEASE_SECONDS} seconds'
    FROM due WHERE claimed.id = due.id
    RETURNING claimed.id, organization_id, stripe_customer_id, sync_version, dirty_gen AS gen, synced_gen, failures,
        dirty_since, lease_token
"""  # noqa: S608 - our own constant
TOUCHED = """
    SELECT count(DISTINCT gen) AS messages,
        coalesce(array_agg(DISTINCT facts ->> 'object_type') FILTER (WHERE facts ? 'object_type'), '{}') AS types,
        coalesce(array_agg(facts ->> 'object_id') FILTER (WHERE facts ? 'ended'), '{}') AS ended
    FROM inbox WHERE source = 'stripe' AND subject = $1 AND gen > $2 AND gen <= $3
"""
GIVE_BACK = """
    UPDATE billing_customers SET lease_token = NULL, lease_until = NULL, failures = failures + $3,
        next_attempt_at = now() + $4::interval, last_error = $5, dead_at = CASE WHEN failures + $3 >= $6 THEN now() END
    WHERE id = $1 AND lease_token = $2
    RETURNING dead_at
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """A customer to read: up to which generation, under which version, and what the messages were about."""

    id: UUID
    organization_id: UUID
    stripe_customer_id: str
    sync_version: int
    gen: int
    failures: int
    dirty_since: datetime | None
    lease_token: UUID
    touched: tuple[str, ...] | None
    """Types of the objects in the messages; None when something else than a message asked for the reading."""
    ended: frozenset[str]
    """Subscriptions that a message said have ended."""


async def claim(raw: asyncpg.Connection[Any], most: int, *, livemode: bool, only: UUID | None = None) -> list[Claim]:
    """Lease up to `most` customers that are due, longest-waiting first; `only` that one, due or not and given
    up on or not, because somebody waits for it."""
    rows = await raw.fetch(CLAIM, new_id(), most, livemode, only)
    return [await _describe(raw, row) for row in rows]


async def _describe(raw: asyncpg.Connection[Any], row: asyncpg.Record) -> Claim:
    values = dict(row)
    synced = values.pop("synced_gen")
    [seen] = await raw.fetch(TOUCHED, row["stripe_customer_id"], synced, row["gen"])
    complete = seen["messages"] == row["gen"] - synced
    return Claim(**values, touched=tuple(seen["types"]) if complete else None, ended=frozenset(seen["ended"]))


async def give_back(raw: asyncpg.Connection[Any], held: Claim, error: str, *, wait: timedelta | None = None) -> bool:
    """Try again later; True when it was the last attempt and the customer is now a dead letter.

    With `wait` the fault is not the customer's (Stripe is away): it counts as no attempt, however long it lasts.
    """
    counts = wait is None
    # Full jitter: a thousand customers that failed together must not come back together.
    pause = wait if wait is not None else min(LONGEST, FIRST * float(2**held.failures)) * uniform(0, 1)  # noqa: S311 - spreading
    dead = await raw.fetchval(GIVE_BACK, held.id, held.lease_token, int(counts), pause, error[:200], ATTEMPTS)
    return dead is not None
