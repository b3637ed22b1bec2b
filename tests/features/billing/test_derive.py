"""From Stripe's words to what may be used: a pure function, so every row of the table and every order can be tried."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.features.billing.models import Invoice, Subscription
from service.features.billing.models.derive import OVERRIDE_SLACK, SLACK, Grant, derive
from service.features.billing.models.mirror import LIVE
from service.features.billing.models.plans import BUSINESS, FREE, PLANS, TEAM, Plan, grants_of
from service.integrations.stripe.readings import STATUSES, subscription_columns

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
START, END = NOW - timedelta(days=3), NOW + timedelta(days=27)
GRACE = timedelta(days=7)


def item(plan: Plan | None, **more: Any) -> dict[str, Any]:
    return {"id": "si_1", "lookup_key": plan.lookup_key if plan else "somebody_elses", "quantity": 1, **more}


def subscription(plan: Plan | None = TEAM, status: str = "active", **more: Any) -> Subscription:
    given = {"items": [item(plan)], "period_start": START, "period_end": END, "created_at": START, "trial_end": None}
    return Subscription(stripe_id=more.pop("stripe_id", "sub_1"), status=status, **{**given, **more})


def owed(days: int, subscription_id: str = "sub_1", **more: Any) -> Invoice:
    given = {"status": "open", "attempt_count": 1, "created_at": NOW - timedelta(days=days)}
    return Invoice(subscription_id=subscription_id, **{**given, **more})


def holds(*subscriptions: Subscription, invoices: tuple[Invoice, ...] = (), **more: Any) -> Grant:
    given = {"overrides": (), "last": None, "grace": GRACE, "now": NOW, **more}
    return derive(subscriptions, invoices, **given)


@pytest.mark.parametrize("status", ["trialing", "active"])
def test_a_paid_plan_holds_until_its_period_ends_and_some_slack(status: str) -> None:
    assert holds(subscription(status=status)) == Grant(TEAM, None, END + SLACK, "sub_1")


@pytest.mark.parametrize("status", ["incomplete", "canceled", "incomplete_expired"])
def test_scenario_38_nothing_paid_is_the_free_plan(status: str) -> None:
    assert holds(subscription(status=status)) == Grant(FREE)


def test_scenario_50_an_unpaid_renewal_has_days_of_grace_from_the_oldest_invoice() -> None:
    found = holds(subscription(status="past_due"), invoices=(owed(2), owed(5), owed(9, "sub_other")))
    assert (found.plan, found.full_until) == (TEAM, NOW - timedelta(days=5) + GRACE)


@pytest.mark.parametrize("status", ["unpaid", "paused"])
def test_scenario_48_and_51_what_is_not_paid_any_more_is_read_only(status: str) -> None:
    found = holds(subscription(status=status))
    assert found.full_until is not None
    assert (found.plan, found.full_until <= NOW) == (TEAM, True)
    assert found.valid_until is None, "its period stands still: it would run out into the free plan, which may write"


def test_scenario_36_of_two_the_better_counts_and_a_person_is_told() -> None:
    found = holds(subscription(), subscription(BUSINESS, stripe_id="sub_2"))
    assert (found.plan, found.alarms) == (BUSINESS, ("more than one live subscription",))


def test_what_is_paid_counts_before_what_is_owed() -> None:
    assert holds(subscription(BUSINESS, "past_due"), subscription(stripe_id="sub_2")).plan is TEAM


@pytest.mark.parametrize("strange", [subscription(None), subscription(status="unknown")])
def test_scenario_25_and_57_what_nobody_knows_keeps_what_held(strange: Subscription) -> None:
    last = Grant(BUSINESS, None, NOW + timedelta(days=1), "sub_1")
    found = holds(strange, last=last)
    assert (found.plan, found.valid_until) == (BUSINESS, last.valid_until)
    assert "unknown price or status: sub_1" in found.alarms
    ended = Grant(BUSINESS, None, NOW - timedelta(days=1), "sub_1")
    assert holds(strange, last=ended).plan is FREE
    assert holds(strange).plan is FREE


def test_scenario_57_any_of_several_items_may_carry_the_plan() -> None:
    """Somebody added support hours by hand, and they came first."""
    assert holds(subscription(items=[item(None), item(BUSINESS)])).plan is BUSINESS


def test_a_gift_counts_beside_what_is_paid_and_ends() -> None:
    tomorrow = NOW + timedelta(days=1)
    assert holds(subscription(), overrides=[("business", tomorrow)]) == Grant(
        BUSINESS, None, tomorrow + OVERRIDE_SLACK, "override"
    )
    assert holds(subscription(), overrides=[("business", NOW)]).plan is TEAM
    assert holds(overrides=[("gone", tomorrow)]).plan is FREE


def test_scenario_53_both_ways_to_cancel_are_an_end() -> None:
    """Flexible billing's portal sets the date and leaves the flag alone."""
    by_date = subscription(cancel_at=END, cancel_at_period_end=False)
    by_flag = subscription(cancel_at=None, cancel_at_period_end=True)
    neither = subscription(cancel_at=None, cancel_at_period_end=False)
    assert (by_date.ends_at, by_flag.ends_at, neither.ends_at) == (END, END, None)


def test_a_status_that_is_new_is_read_as_unknown() -> None:
    columns = subscription_columns({"id": "sub_1", "status": "foo", "items": {"data": []}, "created": 1})
    assert columns["status"] == "unknown"


subscriptions = st.builds(
    subscription,
    st.sampled_from([*PLANS[1:], None]),
    st.sampled_from([*STATUSES, "unknown"]),
    stripe_id=st.uuids().map(str),
    period_end=st.one_of(st.none(), st.integers(-40, 40).map(lambda days: NOW + timedelta(days=days))),
)


@given(st.lists(subscriptions, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_things_does_not_matter(found: list[Subscription], random: Any) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)
    assert holds(*found) == holds(*shuffled)
    assert holds(*found).alarms == holds(*shuffled).alarms


@given(st.lists(subscriptions, max_size=3))
def test_more_paid_is_never_less(found: list[Subscription]) -> None:
    paid = holds(*found, subscription(BUSINESS, stripe_id="sub_paid"))
    assert paid.plan is BUSINESS
    assert paid.full_until is None


@given(st.lists(subscriptions, max_size=3))
def test_nothing_is_given_that_no_live_subscription_justifies(found: list[Subscription]) -> None:
    if not any(one.status in LIVE for one in found):
        assert holds(*found) == Grant(FREE)


def test_a_better_plan_has_more_of_everything() -> None:
    for worse, better in itertools.pairwise(PLANS):
        assert better.rank > worse.rank
        assert all(number > grants_of(worse)[name] for name, number in grants_of(better).items())
