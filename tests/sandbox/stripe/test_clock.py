"""Time at the stand-in: one clock for the account, and what falls due runs in order."""

from __future__ import annotations

from itertools import pairwise

import httpx
import pytest
import stripe

from infra.sandbox.stripe import clock
from infra.sandbox.stripe.server import StripeStandIn
from infra.sandbox.stripe.store import Account
from tests.sandbox.stripe.business import DAY, HOUR, Business, item


@pytest.fixture
def diary(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What was due, and what time it was then."""
    seen: list[tuple[str, int]] = []

    def note(account: Account, object_id: str) -> None:
        seen.append((object_id, account.now()))

    monkeypatch.setitem(clock.WORK, "note", note)
    return seen


def test_what_is_due_runs_in_order_and_sees_its_own_moment(
    stand_in: StripeStandIn, diary: list[tuple[str, int]]
) -> None:
    account = stand_in.account
    start = account.now()
    for name, moment in (("late", 300), ("early", 100), ("middle", 200), ("never", 100_000)):
        account.clock.at(start + moment, "note", name)

    account.clock.advance(1000)

    assert diary == [("early", start + 100), ("middle", start + 200), ("late", start + 300)]
    assert account.now() >= start + 1000


def test_what_falls_due_because_of_something_due_runs_too(
    stand_in: StripeStandIn, diary: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    account = stand_in.account
    start = account.now()

    def again(account: Account, object_id: str) -> None:
        account.clock.at(account.now() + 50, "note", "after")

    monkeypatch.setitem(clock.WORK, "again", again)
    account.clock.at(start + 100, "again", "x")

    account.clock.advance(1000)

    assert diary == [("after", start + 150)]


def test_the_same_entry_twice_runs_once(stand_in: StripeStandIn, diary: list[tuple[str, int]]) -> None:
    account = stand_in.account
    moment = account.now() + 10
    account.clock.at(moment, "note", "x")
    account.clock.at(moment, "note", "x")

    account.clock.advance(20)

    assert diary == [("x", moment)]


def test_a_year_of_renewals_passes_at_once(business: Business) -> None:
    subscription = business.subscribe()

    business.wait(366 * DAY)

    invoices = list(
        business.client.v1.invoices.list({"subscription": subscription.id, "limit": 100}).auto_paging_iter()
    )
    assert (len(invoices), {one.status for one in invoices}) == (13, {"paid"})
    starts = sorted(one.created for one in invoices)
    assert all(28 * DAY <= later - sooner <= 31 * DAY for sooner, later in pairwise(starts))
    assert item(business.now(subscription)).current_period_end > business.stand_in.account.now()


def test_time_never_goes_back(stand_in: StripeStandIn) -> None:
    before = stand_in.account.now()

    stand_in.account.clock.advance(-1000)
    stand_in.account.clock.advance_to(before - 1000)

    assert stand_in.account.now() >= before


def test_the_clock_is_advanced_over_http(business: Business) -> None:
    subscription = business.subscribe(trial_period_days=1)

    answer = httpx.post(f"{business.stand_in.address}/sandbox/clock", json={"advance": DAY + HOUR})

    assert answer.status_code == 200
    assert business.now(subscription).status == "active"


def test_a_test_clock_is_the_accounts_clock(business: Business) -> None:
    v1, account = business.client.v1, business.stand_in.account
    subscription = business.subscribe(trial_period_days=5)
    made = v1.test_helpers.test_clocks.create({"frozen_time": account.now()})

    target = made.frozen_time + 6 * DAY
    advanced = v1.test_helpers.test_clocks.advance(made.id, {"frozen_time": target})

    assert (advanced.status, advanced.frozen_time) == ("ready", target)
    assert account.now() >= target
    assert business.now(subscription).status == "active"
    with pytest.raises(stripe.InvalidRequestError):
        v1.test_helpers.test_clocks.advance(made.id, {"frozen_time": target - 1})


def test_what_falls_due_in_real_time_needs_nobody_to_ask(stand_in: StripeStandIn, diary: list[tuple[str, int]]) -> None:
    account = stand_in.account

    account.clock.at(account.now() + 1, "note", "alone")

    for _ in range(300):
        if diary:
            break
        httpx.get(f"{stand_in.address}/api/knobs")
    assert [name for name, _ in diary] == ["alone"]
