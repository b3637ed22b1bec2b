"""What a change of a subscription would cost: worked out the same way for the change itself and for its preview."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field

from infra.sandbox.stripe import items as subscription_items
from infra.sandbox.stripe.lines import full_periods, prorations
from infra.sandbox.stripe.params import integer, one_of
from infra.sandbox.stripe.periods import period_end
from infra.sandbox.stripe.store import Account, Obj, StripeError

PRORATIONS = ("create_prorations", "always_invoice", "none")


@dataclass
class Change:
    """New items, and what is charged for them. `period` is set when the cycle starts over."""

    items: list[Obj]
    parts: list[Obj] = field(default_factory=list)
    lines: list[Obj] = field(default_factory=list)
    period: tuple[int, int] | None = None
    invoices_now: bool = False
    moment: int = 0

    @property
    def total(self) -> int:
        return sum(one["amount"] for one in [*self.parts, *self.lines])


def plan_change(account: Account, subscription: Obj, params: Obj) -> Change | None:
    """None when neither items nor cycle are touched. Raises StripeError for what cannot be.

    Understands `items`, `proration_behavior`, `proration_date`, `billing_cycle_anchor` and `trial_end=now`.
    """
    behavior = one_of(params, "proration_behavior", PRORATIONS, PRORATIONS[0])
    restarts = "now" in (params.get("billing_cycle_anchor"), params.get("trial_end"))
    if not params.get("items") and not restarts:
        return None
    current = subscription["items"]["data"]
    items = subscription_items.planned(account, subscription, params.get("items") or [])
    start, end = current[0]["current_period_start"], current[0]["current_period_end"]
    moment = integer(params, "proration_date", account.now()) or account.now()
    if not start <= moment <= end:
        text = "Invalid proration date: it must fall within the current period of the subscription."
        raise StripeError(text, param="proration_date")
    change = Change(items, moment=moment, invoices_now=behavior == "always_invoice")
    is_trial = subscription["status"] == "trialing" and params.get("trial_end") != "now"
    if (restarts or subscription_items.interval(items) != subscription_items.interval(current)) and not is_trial:
        _restart(account, subscription, change, is_credited=behavior != "none")
    elif behavior != "none":
        change.parts = prorations(account, subscription, items, moment)
    return change


def _restart(account: Account, subscription: Obj, change: Change, *, is_credited: bool) -> None:
    """Another interval starts a new cycle today: the old one is given back, the new one charged in full."""
    now = account.now()
    if is_credited:
        change.parts = prorations(account, subscription, [], change.moment)
    change.period = (now, period_end(now, change.items[0]["price"]["recurring"], now))
    change.items = [copy(item) for item in change.items]
    subscription_items.set_period(change.items, *change.period)
    change.lines = full_periods(account, subscription, change.items)
    change.invoices_now = True
