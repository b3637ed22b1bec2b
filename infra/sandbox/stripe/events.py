"""Events: made at each change, listed newest first, and handed to the courier (docs.stripe.com/api/events)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import islice

from infra.sandbox.stripe.objects import id_of
from infra.sandbox.stripe.paging import limit_of, within
from infra.sandbox.stripe.records import Event, is_only_thin
from infra.sandbox.stripe.renderings import snapshot_id
from infra.sandbox.stripe.store import Account, Obj, StripeError, missing
from infra.sandbox.stripe.wire import API_VERSION, Operation

MOST_TYPES = 20


def emit(account: Account, event_type: str, obj: Obj, previous: Obj | None = None, *, livemode: bool = False) -> Obj:
    """Make an event of the object as it is now, and queue it for every endpoint that wants it. Never waits."""
    with account.lock:
        shown = _make(account, event_type, obj, previous, livemode=livemode)
        if account.knobs.strikes("twin"):
            _make(account, event_type, obj, previous, livemode=livemode)
        return shown


def _make(account: Account, event_type: str, obj: Obj, previous: Obj | None, *, livemode: bool) -> Obj:
    endpoints = [one for one in account.endpoints.values() if one.wants(event_type)]
    data: Obj = {"object": obj} if previous is None else {"object": obj, "previous_attributes": previous}
    shown: Obj = {
        "id": account.new_id("evt"),
        "object": "event",
        "api_version": API_VERSION,
        "created": account.now(),
        "data": data,
        "livemode": livemode,
        "pending_webhooks": len(endpoints),
        "request": dict(account.request),
        "type": event_type,
    }
    # Turned into bytes at once: that is the copy which later changes of the object cannot reach.
    body = json.dumps(shown).encode()
    if not account.knobs.strikes("suppress"):
        event = Event(
            id=shown["id"],
            type=event_type,
            created=shown["created"],
            object_id=obj.get("id") or "",
            customer=obj["id"] if obj.get("object") == "customer" else id_of(obj.get("customer") or ""),
            body=body,
        )
        account.events.add(event)
        account.courier.queue(event, endpoints)
    copy: Obj = json.loads(body)
    return copy


def find(account: Account, event_id: str) -> Event:
    """By the id of the snapshot or of its thin twin. Raises Stripe's 404."""
    found = account.events.get(snapshot_id(event_id))
    if found is None:
        raise missing("event", event_id)
    return found


def retrieve(account: Account, params: Obj, object_id: str) -> Obj:
    return find(account, object_id).snapshot()


def list_(account: Account, params: Obj) -> Obj:
    """Newest first; `type` may end in `*`, and `delivery_success` is about all endpoints together."""
    limit = limit_of(params)
    before = params.get("ending_before")
    source: Iterable[Event] = account.events.oldest_first() if before else account.events.newest_first()
    if cursor := before or params.get("starting_after"):
        source = past(source, find(account, cursor).id)
    wanted = list(islice(filter(_filter(params), source), limit + 1))
    page = wanted[:limit][::-1] if before else wanted[:limit]
    data = [one.snapshot() for one in page]
    return {"object": "list", "url": "/v1/events", "has_more": len(wanted) > limit, "data": data}


def past(source: Iterable[Event], event_id: str) -> Iterable[Event]:
    """What follows this event."""
    walk = iter(source)
    for one in walk:
        if one.id == event_id:
            break
    return walk


def _filter(params: Obj) -> Callable[[Event], bool]:
    types = params.get("types") or ([params["type"]] if params.get("type") else [])
    if not isinstance(types, list) or len(types) > MOST_TYPES:
        raise StripeError(f"types must be a list of at most {MOST_TYPES}", param="types")
    exact = {name for name in types if not name.endswith("*")}
    starts = tuple(name[:-1] for name in types if name.endswith("*"))
    created = within(params.get("created"), int)
    success = {"true": True, "false": False}.get(str(params.get("delivery_success", "")).lower())

    def fits(event: Event) -> bool:
        return (
            (not types or event.type in exact or event.type.startswith(starts or ("\0",)))
            and created(event.created)
            and not is_only_thin(event.type)
            and (success is None or (event.pending == 0) == success)
        )

    return fits


OPERATIONS: list[Operation] = [
    ("GET", "/v1/events", list_),
    ("GET", "/v1/events/{object_id}", retrieve),
]
