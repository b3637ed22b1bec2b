"""Test clocks as the API has them; each one is the account's clock (docs.stripe.com/api/test_clocks)."""

from __future__ import annotations

from infra.sandbox.stripe.changes import changing, create
from infra.sandbox.stripe.clock import DAY
from infra.sandbox.stripe.params import integer, required
from infra.sandbox.stripe.resources import collection, deleted
from infra.sandbox.stripe.shapes import fresh
from infra.sandbox.stripe.store import Account, Obj, StripeError
from infra.sandbox.stripe.wire import Operation

KIND = "test_helpers.test_clock"
URL = "/v1/test_helpers/test_clocks"


def add(account: Account, params: Obj) -> Obj:
    """A frozen time in the future moves the account there; one in the past is taken as now."""
    required(params, "frozen_time")
    account.clock.advance_to(integer(params, "frozen_time") or 0)
    now = account.now()
    obj = fresh(account, KIND, "clock", name=params.get("name"), frozen_time=now, deletes_after=now + 30 * DAY)
    return create(account, obj, f"{KIND}.created")


def advance(account: Account, params: Obj, object_id: str) -> Obj:
    required(params, "frozen_time")
    clock = account.store.get(KIND, object_id)
    target = integer(params, "frozen_time") or 0
    if target <= clock["frozen_time"]:
        raise StripeError("frozen_time must be after the clock's current frozen time.", param="frozen_time")
    with changing(account, clock, f"{KIND}.advancing"):
        clock["status"] = "advancing"
    account.clock.advance_to(target)
    with changing(account, clock, f"{KIND}.ready"):
        clock.update(status="ready", frozen_time=target)
    return clock


OPERATIONS: list[Operation] = [
    ("POST", URL, add),
    *collection(KIND, URL),
    deleted(KIND, URL, f"{KIND}.deleted"),
    ("POST", f"{URL}/{{object_id}}/advance", advance),
]
