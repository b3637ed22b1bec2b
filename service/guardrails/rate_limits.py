"""How often somebody may do something: one table of policies, counted in Redis, with an answer for when it is away.

Protects from: guessing passwords and codes (ASVS 6.3.1, 2.4.1), mail bombs, floods, scraping. How to use:
`@limit(LOGIN)` on the route; without it reads get READ and changes get WRITE. The door (guardrails.gate) counts by
address, person and organization; an action that knows its target counts that too: `await spend(resources, LOGIN, ...)`.

Declared as with slowapi (a decorator, "20/5 minutes" read by `limits`, X-RateLimit-* headers). slowapi itself is not
used: it asks Redis synchronously on the event loop, takes three round trips where one does, answers 500 on every route
when Redis is away, and has one answer to that for all limits, where guessing must stay closed and reading open.

A limit delays and never locks (core.buckets has the rule), so it is no weapon against the owner of an account.
Limits: while Redis is away each process counts for itself.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar

from limits import parse_many
from prometheus_client import Counter

from service.core import telemetry
from service.core.buckets import COUNT_LUA, Bucket, Counted, LocalBuckets
from service.core.context import SAFE_METHODS, Resources
from service.core.crypto import keyed_hash
from service.core.errors import TooManyRequests
from service.core.redis import LOST
from service.core.scripts import Script, now_ms
from service.guardrails.addresses import bucket_of

F = TypeVar("F", bound=Callable[..., Any])

SPEND = Script("rate_limits.spend", COUNT_LUA, "return count(tonumber(ARGV[1]), tonumber(ARGV[2]), 3)")

MOST_CALLERS, CALLERS_MS = 20, 60 * 60 * 1000
# Who tries one target, so that staff can see why its owner is kept waiting: the latest few, for an hour.
SPEND_BY = Script(
    "rate_limits.spend_by",
    COUNT_LUA,
    f"""
  redis.call('ZADD', ARGV[3], ARGV[1], ARGV[4])
  redis.call('ZREMRANGEBYRANK', ARGV[3], 0, -{MOST_CALLERS + 1})
  redis.call('PEXPIRE', ARGV[3], {CALLERS_MS})
  return count(tonumber(ARGV[1]), tonumber(ARGV[2]), 5)
""",
)

refusals = Counter("rate_limit_refusals_total", "Requests refused", ("policy",), registry=telemetry.REGISTRY)


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """What one kind of request may cost per dimension, in the notation of `limits`; "" counts nothing."""

    name: str
    when_lost: Literal["open", "closed"]
    """Redis away: this process counts alone, with the full numbers (open) or a tenth of them (closed)."""
    address: str = ""
    user: str = ""
    organization: str = ""
    pair: str = ""
    """One target from one address or known device: tightens first, and hurts nobody else."""
    subject: str = ""
    """One target from everywhere. Known devices are exempt, so that it is no weapon against the owner."""
    distinct: str = ""
    """How many different targets one address may try."""
    everyone: str = ""
    headers: bool = False
    """Tell the caller how much is left; not where guessing is the attack."""

    def __post_init__(self) -> None:
        for dimension in ("address", "user", "organization", "pair", "subject", "distinct", "everyone"):
            _parsed(getattr(self, dimension))
        if self.distinct and len(_parsed(self.pair)) != 1:
            raise ValueError(f"{self.name}: `distinct` recognizes a new target by the one bucket of its `pair`")


@lru_cache(maxsize=256)
def _parsed(limits: str) -> tuple[tuple[int, int], ...]:
    return tuple((one.amount, one.get_expiry() * 1000) for one in parse_many(limits)) if limits else ()


# fmt: off
LOGIN = Policy("login", "closed", address="20/5 minutes", pair="5/15 minutes", subject="50/day", distinct="10/hour",
               everyone="1000/5 minutes")
SECOND_FACTOR = Policy("second-factor", "closed", address="20/15 minutes", subject="5/15 minutes; 20/day")
MAIL = Policy("mail", "closed", address="10/hour", subject="3/hour; 5/day", everyone="500/hour")
# Apart from MAIL: one free account inviting the world would use up everybody's password resets.
INVITATION = Policy("invitation", "closed", address="100/hour", user="60/hour; 200/day", organization="300/day",
                    subject="3/hour; 5/day")
# By address only: nobody guesses 32 random bytes, and whoever holds the link may need several tries at a password.
TOKEN = Policy("token", "closed", address="30/10 minutes")
SIGN_UP = Policy("sign-up", "closed", address="5/hour; 20/day", everyone="300/hour")
STEP_UP = Policy("step-up", "closed", address="20/hour", user="5/15 minutes")
EXPORT = Policy("export", "closed", address="10/hour", organization="5/hour", headers=True)
PRIVACY_EXPORT = Policy("privacy-export", "closed", address="10/hour", user="5/hour", headers=True)
# One indicator's readings: whoever has sixty of them may fetch each.
SERIES = Policy("series", "closed", address="240/hour", organization="120/hour", headers=True)
UPLOAD = Policy("upload", "closed", address="60/hour", user="30/hour", headers=True)
# Stripe takes 20 invoices a day for one subscription, and answers more with an error (docs.stripe.com/rate-limits).
PLAN_CHANGE = Policy("plan-change", "open", subject="6/hour")
# Reads Stripe while the person waits; its confirming page asks again every few seconds, for two minutes.
STRIPE_READ = Policy("stripe-read", "open", address="300/10 minutes", user="60/10 minutes")
# Each makes us ask somebody else's server, perhaps with a key that a person guesses at.
SOURCE_TRY = Policy("source-try", "closed", address="60/hour", user="20/10 minutes", organization="60/hour")
UNSIGNED = Policy("unsigned", "open", subject="60/minute")
READ = Policy("read", "open", address="600/minute", user="300/minute", headers=True)
WRITE = Policy("write", "open", address="120/minute", user="60/minute", headers=True)
# The organization's rate is its plan's (guardrails.gate); these two only keep one address or key from taking it all.
API = Policy("api", "open", address="1200/minute", user="600/minute", headers=True)
# Nobody guesses 32 random bytes; whoever tries, or goes on with a key that was revoked, costs a look-up each time.
INVALID_KEY = Policy("invalid-key", "closed", pair="10/minute")
# fmt: on


def limit(policy: Policy) -> Callable[[F], F]:
    """Give a route a policy of its own."""

    def decorate(endpoint: F) -> F:
        endpoint.rate_policy = policy  # type: ignore[attr-defined]
        return endpoint

    return decorate


def policy_of(endpoint: Any, method: str) -> Policy:
    """The route's own policy; else API for all of an api.py, READ for safe methods, WRITE for changes."""
    declared: Policy | None = getattr(endpoint, "rate_policy", None)
    if declared is not None:
        return declared
    if str(getattr(endpoint, "__module__", "")).endswith(".api"):
        return API
    return READ if method in SAFE_METHODS else WRITE


async def spend(
    resources: Resources, policy: Policy, *, subject: str = "", address: str = "", device: str | None = None
) -> None:
    """Count one attempt on `subject` (an e-mail, a user id, a token; existing or not), or raise TooManyRequests.

    `device` names a browser this subject has used before: it is counted apart from everybody else.
    """
    counted = await _count(resources, policy, 1, subject, address, device)
    if counted.wait:
        raise refusal(policy, counted)


async def refund(
    resources: Resources, policy: Policy, *, subject: str = "", address: str = "", device: str | None = None
) -> None:
    """The attempt succeeded: take back what `spend` with the same values counted, so that only failures count.

    One attempt, never the whole bucket: else an attacker clears it by logging in to his own account in between.
    """
    await _count(resources, policy, -1, subject, address, device)


async def _count(
    resources: Resources, policy: Policy, step: int, subject: str, address: str, device: str | None
) -> Counted:
    space, scale, now = resources.settings.redis_namespace, resources.settings.rate_limit_scale, now_ms()
    target = target_of(subject)
    caller = f"device-{device}" if device else bucket_of(address)
    buckets = buckets_of(policy, space, scale, "pair", f"{target}:{caller}")
    if not device:
        buckets += buckets_of(policy, space, scale, "distinct", caller, "d")
        buckets += buckets_of(policy, space, scale, "subject", target if subject else "")
        buckets += buckets_of(policy, space, scale, "everyone", "all")
    remember = [callers_key(policy, space, target), caller] if policy.pair and subject and step > 0 else []
    try:
        script = SPEND_BY if remember else SPEND
        return Counted(*await script.run(resources, now, step, *remember, *_flat(buckets)))
    except LOST:
        return count_locally(resources, policy, buckets, now, step)


def target_of(subject: str) -> str:
    """Keyed, so that nobody reads in Redis who was tried."""
    return keyed_hash("rate-limit", folded(subject)).hex()[:32]


def callers_key(policy: Policy, space: str, target: str) -> str:
    return f"{space}:l:{policy.name}:callers:{target}"


def folded(subject: str) -> str:
    """Spellings of one address are one address: `Ann@Example.com ` must not get attempts of her own."""
    return unicodedata.normalize("NFKC", subject).strip().casefold()


@lru_cache(maxsize=4096)
def at_the_door(policy: Policy, space: str, scale: int, address: str) -> tuple[list[Bucket], list[str | int]]:
    """What every request of the route counts in, and the same as a script's arguments."""
    buckets = [
        *buckets_of(policy, space, scale, "address", bucket_of(address)),
        *buckets_of(policy, space, scale, "user", "", "u"),
        *buckets_of(policy, space, scale, "organization", "", "o"),
    ]
    return buckets, _flat(buckets)


def buckets_of(policy: Policy, space: str, scale: int, dimension: str, who: str, whose: str = "") -> list[Bucket]:
    return [
        Bucket(f"{space}:l:{policy.name}:{dimension}:{window}:{who}", whose, amount * scale, window)
        for amount, window in _parsed(getattr(policy, dimension))
        if who or whose
    ]


def _flat(buckets: Iterable[Bucket]) -> list[str | int]:
    return [value for bucket in buckets for value in bucket]


def refusal(policy: Policy, counted: Counted) -> TooManyRequests:
    refusals.labels(policy.name).inc()
    seconds = -(-counted.wait // 1000)
    return TooManyRequests(
        "Too many requests of this kind.", mend=f"Try again in {_spoken(seconds)}.", retry_after=seconds
    )


def _spoken(seconds: int) -> str:
    """For people, who see no header; rounded up, so that it holds."""
    many, word = (seconds, "second") if seconds < 120 else (-(-seconds // 60), "minute")
    return f"{many} {word}{'s' * (many != 1)}"


def refusal_by_plan(rate: int, counted: Counted, *, sold: bool) -> TooManyRequests:
    refusals.labels("plan").inc()
    return TooManyRequests(
        f"Your plan allows {rate} API requests per minute for the whole organization.",
        mend=f"Wait for the time given in Retry-After{'; a larger plan allows more (/billing)' if sold else ''}.",
        retry_after=-(-counted.wait // 1000),
    )


def count_locally(resources: Resources, policy: Policy, buckets: Sequence[Bucket], now: int, step: int) -> Counted:
    try:
        local = resources.get(LocalBuckets)
    except KeyError:
        resources.provide(LocalBuckets, local := LocalBuckets())
    return local.count(buckets, now, step, closed=policy.when_lost == "closed")
