"""What the rate limits have counted for somebody, and forgetting it: for staff who help whoever is kept waiting.

    states = await look(resources, of_account(resources, user_id, email))
    await reset(resources, of_account(resources, user_id, email), "login")

The names of the buckets are computed, as the door computes them: nothing here walks through Redis. A target's callers
(addresses and known browsers that tried one account) are the latest twenty of the last hour, which `spend` remembers.
What is shown names no whole address, though the buckets are counted by whole ones.
Limits: buckets that other processes count while Redis is away are not seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from service.core.buckets import Bucket
from service.core.context import Resources
from service.core.errors import Unavailable
from service.core.redis import LOST
from service.core.scripts import Script, now_ms
from service.guardrails import rate_limits
from service.guardrails.addresses import bucket_of, region_of
from service.guardrails.rate_limits import Policy, buckets_of, callers_key, target_of

POLICIES = {policy.name: policy for policy in vars(rate_limits).values() if isinstance(policy, Policy)}
PLAN = "plan"
"""The API requests per minute that the plan allows the whole organization; guardrails.gate counts them."""
LOOK = Script(
    "limit_lookup.look",
    "local found = {} for at = 1, #ARGV do found[at] = redis.call('GET', ARGV[at]) or '' end return found",
)
CALLERS = Script(
    "limit_lookup.callers",
    "local found = {} for at = 1, #ARGV do found[at] = redis.call('ZRANGE', ARGV[at], 0, -1) end return found",
)
RESET = Script(
    "limit_lookup.reset",
    "local gone = 0 for at = 1, #ARGV do gone = gone + redis.call('DEL', ARGV[at]) end return gone",
)


@dataclass(frozen=True, slots=True)
class Known:
    """A bucket that may exist for the subject: of which policy, and what it counts by."""

    policy: str
    by: str
    bucket: Bucket


@dataclass(frozen=True, slots=True)
class Counted:
    """What one bucket holds now."""

    policy: str
    by: str
    used: int
    limit: int
    window: str
    resets_at: datetime

    @property
    def blocks(self) -> bool:
        return self.used >= self.limit


def of_address(resources: Resources, address: str) -> list[Known]:
    caller, space, scale = bucket_of(address), *_scaled(resources)
    found = []
    for policy in POLICIES.values():
        found += _known(policy, "every request", buckets_of(policy, space, scale, "address", caller))
        found += _known(policy, "different accounts", buckets_of(policy, space, scale, "distinct", caller))
        found += _known(policy, "what it sent", buckets_of(policy, space, scale, "subject", target_of(address)))
        nobody = f"{target_of('')}:{caller}"
        found += _known(policy, "what it tried", buckets_of(policy, space, scale, "pair", nobody))
    return found


async def of_account(resources: Resources, user_id: UUID | None, email: str) -> list[Known]:
    """By the person, by the e-mail (whether or not it has an account), and by everybody who tried it lately."""
    space, scale = _scaled(resources)
    found: list[Known] = []
    if user_id is not None:
        for policy in POLICIES.values():
            found += _known(policy, "this person", buckets_of(policy, space, scale, "user", user_id.hex))
    names = [name for name in (email, str(user_id) if user_id else "") if name]
    for name in names:
        for policy in POLICIES.values():
            found += _known(policy, "from everywhere", buckets_of(policy, space, scale, "subject", target_of(name)))
    pairs = [(policy, target_of(name)) for policy in POLICIES.values() if policy.pair for name in names]
    tried = await _ask(CALLERS, resources, *(callers_key(policy, space, target) for policy, target in pairs))
    for (policy, target), callers in zip(pairs, tried, strict=True):
        for caller in map(bytes.decode, callers):
            by = (
                f"known browser {caller[7:15]}"
                if caller.startswith("device-")
                else f"from {region_of(caller.partition('/')[0])}"
            )
            found += _known(policy, by, buckets_of(policy, space, scale, "pair", f"{target}:{caller}"))
    return found


def of_organization(resources: Resources, organization_id: UUID, api_per_minute: int) -> list[Known]:
    space, scale = _scaled(resources)
    whole = Bucket(f"{space}:l:plan:{organization_id.hex}", "", api_per_minute * scale, 60_000)
    found = [Known(PLAN, "all keys together", whole)]
    for policy in POLICIES.values():
        mine, target = "the organization", target_of(str(organization_id))
        found += _known(policy, mine, buckets_of(policy, space, scale, "organization", organization_id.hex))
        found += _known(policy, mine, buckets_of(policy, space, scale, "subject", target))
    return found


def of_key(resources: Resources, secret_hash: bytes) -> list[Known]:
    space, scale = _scaled(resources)
    return [
        one
        for policy in POLICIES.values()
        for one in _known(policy, "this key", buckets_of(policy, space, scale, "user", secret_hash.hex()))
    ]


async def look(resources: Resources, known: Iterable[Known]) -> list[Counted]:
    """Those that hold anything now, the fullest first; and the plan's, whatever it holds."""
    asked, now = list(known), now_ms()
    found = await _ask(LOOK, resources, *(one.bucket.name for one in asked))
    held = []
    for one, value in zip(asked, found, strict=True):
        left = float(value or 0) - now
        if 0 < left <= 2 * one.bucket.window_ms or one.policy == PLAN:
            held.append(_counted(one, left, now))
    return sorted(held, key=lambda one: (-one.used / one.limit, one.policy, one.by))


async def reset(resources: Resources, known: Iterable[Known], policy: str = "") -> int:
    """Empty the buckets, of one policy or of all; how many held anything."""
    names = [one.bucket.name for one in known if policy in ("", one.policy)]
    return int(await _ask(RESET, resources, *names)) if names else 0


def _counted(one: Known, left: float, now: int) -> Counted:
    _, _, limit, window = one.bucket
    used = min(limit, math.ceil(max(0, left) / (window / limit) - 0.001))
    resets = datetime.fromtimestamp((now + max(0, left)) / 1000, UTC)
    return Counted(one.policy, one.by, used, limit, _in_words(window // 1000), resets)


def _in_words(seconds: int) -> str:
    for size, word in ((86_400, "day"), (3_600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"{seconds // size} {word}"
    return f"{seconds} s"


def _known(policy: Policy, by: str, buckets: Iterable[Bucket]) -> list[Known]:
    return [Known(policy.name, by, bucket) for bucket in buckets]


async def _ask(script: Script, resources: Resources, *names: str) -> Any:
    try:
        return await script.run(resources, *names)
    except LOST as error:
        raise Unavailable("The limits cannot be looked up right now.", retry_after=5) from error


def _scaled(resources: Resources) -> tuple[str, int]:
    return resources.settings.redis_namespace, resources.settings.rate_limit_scale
