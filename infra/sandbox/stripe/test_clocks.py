"""Test clocks as the API has them; each one is the account's clock (docs.stripe.com/api/test_clocks)."""

from __future__ import annotations

from infra.sandbox.stripe.changes import changing, create
from infra.sandbox.stripe.clock import DAY
from infra.sandbox.stripe.events import emit
from infra.sandbox.stripe.params import integer, required
from infra.sandbox.stripe.store import Account, Obj, StripeError, page_of
from infra.sandbox.stripe.wire import Operation

KIND = "test_helpers.test_clock"


def add(account: Account, params: Obj) -> Obj:
    """A frozen time in the future moves the account there; one in the past is taken as now."""
    required(params, "frozen_time")
    account.clock.advance_to(integer(params, "frozen_time") or 0)
    now = account.now()
    obj: Obj = {
        "id": account.new_id("clock"),
        "object": KIND,
        "created": now,
        "deletes_after": now + 30 * DAY,
        "frozen_time": now,
        "livemode": False,
        "name": params.get("name"),
        "status": "ready",
        "status_details": {},
    }
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


def delete(account: Account, params: Obj, object_id: str) -> Obj:
    clock = account.store.get(KIND, object_id)
    account.store.remove(clock)
    emit(account, f"{KIND}.deleted", clock)
    return {"id": object_id, "object": KIND, "deleted": True}


def list_(account: Account, params: Obj) -> Obj:
    return page_of(account.store.of(KIND), params, "/v1/test_helpers/test_clocks")


def retrieve(account: Account, params: Obj, object_id: str) -> Obj:
    return account.store.get(KIND, object_id)


OPERATIONS: list[Operation] = [
    ("POST", "/v1/test_helpers/test_clocks", add),
    ("GET", "/v1/test_helpers/test_clocks", list_),
    ("GET", "/v1/test_helpers/test_clocks/{object_id}", retrieve),
    ("POST", "/v1/test_helpers/test_clocks/{object_id}/advance", advance),
    ("DELETE", "/v1/test_helpers/test_clocks/{object_id}", delete),
]
