"""What Stripe really had, moment by moment, and what that entitles to: in words of its own, for judging ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from infra.sandbox.stripe.store import Account, Obj
from service.features.billing.models.plans import BY_LOOKUP_KEY, FREE, Plan

ENDED = ("canceled", "incomplete_expired")
SLACK = 72 * 3600
State = dict[str, tuple[Any, ...]]
"""By Stripe's id; what is in the tuple depends on the kind."""


def subscription(thing: Obj) -> tuple[Any, ...]:
    items = [(one["id"], one["price"]["lookup_key"], one["quantity"]) for one in thing["items"]["data"]]
    end = max(one["current_period_end"] for one in thing["items"]["data"])
    names = ("cancel_at", "cancel_at_period_end", "canceled_at", "ended_at", "trial_end")
    return (thing["status"], end, *items, *(thing[name] for name in names), bool(thing["pending_update"]))


def copied_subscription(row: Any) -> tuple[Any, ...]:
    items = [(one["id"], one["lookup_key"], one["quantity"]) for one in row["items"]]
    names = ("cancel_at", "cancel_at_period_end", "canceled_at", "ended_at", "trial_end")
    waits = bool(row["pending_update"])
    return (row["status"], seconds(row["period_end"]), *items, *(seconds(row[name]) for name in names), waits)


def invoice(thing: Obj) -> tuple[Any, ...]:
    return tuple(thing[name] for name in ("status", "total", "amount_paid", "attempt_count"))


def charge(thing: Obj) -> tuple[Any, ...]:
    return (thing["amount_captured"], thing["amount_refunded"])


def seconds(value: Any) -> Any:
    return int(value.astimezone(UTC).timestamp()) if isinstance(value, datetime) else value


@dataclass
class History:
    """Of one kind of object: each state there was, in order, and the newest that our copy has shown."""

    kind: str
    show: Callable[[Obj], tuple[Any, ...]]
    states: list[State] = field(default_factory=lambda: [{}])
    reached: int = 0

    def note(self, account: Account, customer: str) -> bool:
        """Something may have happened; whether it has."""
        with account.lock:
            now = {one["id"]: self.show(one) for one in account.store.of(self.kind, customer=customer)}
        if now == self.states[-1]:
            return False
        self.states.append(now)
        return True

    def insist_on(self, ours: State) -> None:
        """Our copy must be a state that there was, and none before the one that it showed last."""
        later = [at for at in range(self.reached, len(self.states)) if self.states[at] == ours]
        earlier = [at for at in range(self.reached) if self.states[at] == ours]
        assert later, (
            f"the copy of {self.kind}s went back from state {self.reached} to {earlier[-1]}: {ours}"
            if earlier
            else f"no {self.kind}s were ever like this: {ours}; since the last look: {self.states[self.reached :]}"
        )
        self.reached = later[0]

    @property
    def is_current(self) -> bool:
        return self.states[self.reached] == self.states[-1]


def earns(state: State, now: datetime) -> Plan:
    """The best plan that these subscriptions can still justify, a missed end or renewal taken into account."""
    found = [FREE]
    for status, end, item, *_ in state.values():
        if status not in (*ENDED, "incomplete") and now.timestamp() <= end + SLACK:
            found.append(BY_LOOKUP_KEY[item[1]])
    return max(found, key=lambda plan: plan.rank)


def is_owed(state: State, now: datetime) -> Plan:
    """The plan that somebody whose period is paid for must have, in full."""
    found = [FREE]
    for status, end, item, *_ in state.values():
        if status in ("trialing", "active") and now.timestamp() < end:
            found.append(BY_LOOKUP_KEY[item[1]])
    return max(found, key=lambda plan: plan.rank)
