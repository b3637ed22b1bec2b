"""The front door: one Redis round trip per request counts its limits and finds its session.

Requests with an API key count by key and against the organization's plan, too, before anybody has asked PostgreSQL
whose key that is and which plan they have: Redis remembers both as it was told last, and `agree` tells it when they
differ. So a new key and a new plan's rate count from the second request on, and no request pays a second trip for it.
A key that PostgreSQL has not believed counts by its address alone, so nobody uses up another's rate with made-up keys.

Protects from: floods and guessing (guardrails.rate_limits) and from a request whose session nobody checked
(guardrails.sessions). How to use: nothing; every context in guardrails.contexts comes through `enter`.

Redis away: open policies count in this process, closed ones allow a tenth; a request that shows a session cookie gets
503, because answering it as anonymous would be as wrong as believing it. Limits: the person's own limit is counted
only where the session is read, so public pages know addresses alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from starlette.requests import Request
from starlette.types import Scope

from service.core.buckets import COUNT_LUA, Counted
from service.core.context import Entitlements, Login, Resources
from service.core.errors import Unavailable
from service.core.redis import LOST
from service.core.scripts import Script, lua, now_ms
from service.guardrails import hipaa, impersonation, rate_limits, sessions
from service.guardrails.entitlements import Feature, Plans

ENTER = Script("gate.enter", sessions.SESSION_LUA, COUNT_LUA, lua(__file__, "gate.lua"))
TELL = Script(
    "gate.tell",
    "redis.call('SET', ARGV[1] .. ':key:' .. ARGV[4], ARGV[2], 'EX', 604800)"
    "return redis.call('SET', ARGV[1] .. ':rate:' .. ARGV[2], ARGV[3], 'EX', 604800)",
)
FORGET = Script("gate.forget", "return redis.call('DEL', ARGV[1] .. ':key:' .. ARGV[2])")
STATE, RATE = "rate_limit", "plan_rate"
REFUSED = "refused_session"


async def enter(request: Request, resources: Resources, *, identify: bool = True, key: str = "") -> Login | None:
    """Admit the request: its session, or None when it has none. `identify=False` does not look for one (public pages,
    the API); `key` is the hash of the API key that it shows.

    Raises TooManyRequests, SessionRotated (the id was replaced a moment ago) or Unavailable (Redis is away and the
    request claims a session).
    """
    scope, settings = request.scope, resources.settings
    state = scope["state"]
    policy = rate_limits.policy_of(scope["endpoint"], scope["method"])
    token = sessions.cookie_of(request, settings) if identify else None
    buckets, arguments = rate_limits.at_the_door(
        policy, settings.redis_namespace, settings.rate_limit_scale, state["address"]
    )
    if token is None and not buckets:
        return None
    session = sessions.key_of(token) if token else ""
    now = now_ms()
    found, by_plan = b"", 0
    rate = _rate(resources, resources.get(Plans).limits) if key else 0
    try:
        *counts, found, rate, by_plan = await ENTER.run(
            resources,
            settings.redis_namespace,
            now,
            session,
            rate,
            key,
            int(hipaa.is_unattended(settings, scope["headers"])),
            *arguments,
        )
        counted, lost = Counted(*counts), None
        state[RATE] = rate
    except LOST as error:
        counted, lost = rate_limits.count_locally(resources, policy, buckets, now, 1), error
    if policy.headers:
        state[STATE] = counted, now
    if counted.wait and by_plan:
        raise rate_limits.refusal_by_plan(rate, counted, sold=resources.get(Plans).sold)
    if counted.wait:
        state[REFUSED] = session, found
        raise rate_limits.refusal(policy, counted)
    if lost and token:
        raise Unavailable("Logins cannot be checked right now.", retry_after=5) from lost
    if not found:
        return None
    sessions.refuse_rotated(found)
    login = state["login"] = sessions.unpack(session, found)
    impersonation.refuse_ended(login)
    return login


async def agree(scope: Scope, resources: Resources, held: Entitlements, key: str) -> None:
    """Tell the door whose key this is and which rate the plan has, when it counted this request with another."""
    known, rate = scope["state"].get(RATE), _rate(resources, held.limits)
    if known is not None and known != rate and held.organization_id is not None:
        with suppress(*LOST):
            await TELL.run(resources, resources.settings.redis_namespace, held.organization_id.hex, rate, key)


async def forget(scope: Scope, resources: Resources, key: str) -> None:
    """The key is not good any more: from now on whoever shows it uses up nobody's rate."""
    if scope["state"].get(RATE):
        with suppress(*LOST):
            await FORGET.run(resources, resources.settings.redis_namespace, key)


def knows_key(scope: Scope) -> bool:
    """Whether PostgreSQL has believed the request's key before, so that it was counted against its organization."""
    return bool(scope["state"].get(RATE))


def _rate(resources: Resources, limits: Mapping[str, int]) -> int:
    return limits[Feature.API_PER_MINUTE] * resources.settings.rate_limit_scale


def headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """What is left of the limit, in slowapi's names: Limit and Remaining in requests, Reset in epoch seconds.

    Retry-After belongs to the refusal alone (RFC 9110, 10.2.3), so the error's rendering adds that.
    """
    if (known := scope.get("state", {}).get(STATE)) is None:
        return []
    counted, now = known
    return [
        (b"x-ratelimit-limit", b"%d" % counted.limit),
        (b"x-ratelimit-remaining", b"%d" % counted.remaining),
        (b"x-ratelimit-reset", b"%d" % -(-(now + counted.empty_in) // 1000)),
    ]
