"""What most of the API's collections have in common: a list in pages, one object by its id, and simple changes.

docs.stripe.com/api/pagination. What a kind of object has of its own is a function in that kind's module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from infra.sandbox.stripe.changes import changing
from infra.sandbox.stripe.events import emit
from infra.sandbox.stripe.paging import page_of
from infra.sandbox.stripe.params import merge_metadata
from infra.sandbox.stripe.store import Account, Obj
from infra.sandbox.stripe.wire import Operation

WORDS = {"true": True, "false": False}
Fits = Callable[[Obj, Any], bool]


def collection(
    kind: str, url: str, equal: str = "", also: dict[str, Fits] | None = None, **usual: str
) -> tuple[Operation, Operation]:
    """A list, newest first, and each object by its id.

    `equal` names parameters that a field of the object must equal, `also` decides on others, and `usual` is what one
    of those is when nobody gives it.
    """

    def list_(account: Account, params: Obj) -> Obj:
        given = usual | params
        customer = given.get("customer")
        if customer and customer not in account.store.kinds.get("deleted_customer", {}):
            # Whoever was deleted still has lists; a customer that nobody ever heard of is a mistake.
            account.store.get("customer", customer, "customer")
        wanted = {name: WORDS.get(given[name], given[name]) for name in equal.split() if given.get(name)}
        tests = [(fits, given[name]) for name, fits in (also or {}).items() if given.get(name)]
        every = account.store.of(kind, **wanted)
        return page_of([one for one in every if all(fits(one, value) for fits, value in tests)], params, url)

    def retrieve(account: Account, params: Obj, object_id: str) -> Obj:
        return account.store.get(kind, object_id)

    return ("GET", url, list_), ("GET", f"{url}/{{object_id}}", retrieve)


def updated(kind: str, url: str, event: str, fill: Callable[[Account, Obj, Obj], None]) -> Operation:
    """`fill` puts the parameters into the object; the event tells what was there before."""

    def update(account: Account, params: Obj, object_id: str) -> Obj:
        with changing(account, account.store.get(kind, object_id), *event.split()) as obj:
            fill(account, obj, params)
        return obj

    return ("POST", f"{url}/{{object_id}}", update)


def fill_metadata(account: Account, obj: Obj, params: Obj) -> None:
    """All that may be changed of most objects."""
    merge_metadata(obj, params)


def deleted(kind: str, url: str, event: str, check: Callable[[Account, Obj], None] | None = None) -> Operation:
    """`check` raises StripeError for what must stay."""

    def delete(account: Account, params: Obj, object_id: str) -> Obj:
        obj = account.store.get(kind, object_id)
        if check:
            check(account, obj)
        account.store.remove(obj)
        emit(account, event, obj)
        return {"id": object_id, "object": kind, "deleted": True}

    return ("DELETE", f"{url}/{{object_id}}", delete)


def acted(kind: str, url: str, verb: str, work: Callable[[Account, Obj], Any]) -> Operation:
    """`POST /v1/things/{id}/verb`: do this to the object, and answer it."""

    def act(account: Account, params: Obj, object_id: str) -> Obj:
        obj = account.store.get(kind, object_id)
        work(account, obj)
        return obj

    return ("POST", f"{url}/{{object_id}}/{verb}", act)
