"""Every change of an object goes through here, so that its event says what was there before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from infra.sandbox.stripe import events
from infra.sandbox.stripe.objects import copied
from infra.sandbox.stripe.store import Account, Obj, StripeError

# Work that a change of an object of this kind brings with it.
FOLLOWS: dict[str, Callable[[Account, Obj], None]] = {}
WITH_PREVIOUS = (".updated", "charge.refunded")


def create(account: Account, obj: Obj, event: str = "") -> Obj:
    """Keep a new object and tell of it."""
    account.store.add(obj)
    if event:
        events.emit(account, event, obj)
    return obj


@contextmanager
def changing(account: Account, obj: Obj, *types: str) -> Iterator[Obj]:
    """Change the object inside; one event of each type follows if anything did change. An error takes it all back."""
    before = copied(obj)
    try:
        yield obj
    except StripeError:
        obj.clear()
        obj.update(before)
        raise
    if previous := difference(before, obj):
        for one in types:
            events.emit(account, one, obj, previous if one.endswith(WITH_PREVIOUS) else None)
        settled(account, obj)


def settled(account: Account, obj: Obj) -> None:
    """What follows from the state that an object is in now."""
    if work := FOLLOWS.get(obj["object"]):
        work(account, obj)


def difference(before: Obj, after: Obj) -> Obj:
    """Old values of what changed: hashes key by key, lists as a whole, keys that are new as null."""
    changed: Obj = {}
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        is_pair: bool = isinstance(old, dict) and isinstance(new, dict)
        changed[key] = difference(_hash(old), _hash(new)) if is_pair else old
    return changed


def _hash(value: Any) -> Obj:
    return value if isinstance(value, dict) else {}
