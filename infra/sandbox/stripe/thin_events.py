"""Thin events, a reference without the object, under /v2 (docs.stripe.com/api/v2/core/events)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import islice
from urllib.parse import urlencode

from infra.sandbox.stripe import events
from infra.sandbox.stripe.paging import limit_of, within
from infra.sandbox.stripe.records import Event, thin_type
from infra.sandbox.stripe.renderings import thin_id, thin_in_full
from infra.sandbox.stripe.store import Account, Obj
from infra.sandbox.stripe.wire import Operation

PATH = "/v2/core/events"


def retrieve(account: Account, params: Obj, object_id: str) -> Obj:
    return thin_in_full(events.find(account, object_id).snapshot())


def list_(account: Account, params: Obj) -> Obj:
    """Newest first, by `types`, `object_id` and `created`; `next_page_url` leads on."""
    limit = limit_of(params)
    types = params.get("types") or []
    created = within(params.get("created"), _seconds)
    source: Iterable[Event] = account.events.newest_first()
    if page := params.get("page"):
        source = events.past(source, events.find(account, page).id)

    def fits(event: Event) -> bool:
        return (
            (not types or thin_type(event.type) in types)
            and params.get("object_id") in (None, event.object_id)
            and created(event.created)
        )

    wanted = list(islice(filter(fits, source), limit + 1))
    data = [thin_in_full(one.snapshot()) for one in wanted[:limit]]
    following = None
    if len(wanted) > limit:
        following = f"{PATH}?{urlencode(_flat(params | {'limit': limit, 'page': thin_id(wanted[limit - 1].id)}))}"
    return {"data": data, "next_page_url": following, "previous_page_url": None}


def _seconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp())


def _flat(params: Obj) -> list[tuple[str, str]]:
    """The query again, one level deep, as this list's filters are."""
    fields = []
    for name, value in params.items():
        if isinstance(value, dict):
            fields += [(f"{name}[{key}]", inner) for key, inner in value.items()]
        elif isinstance(value, list):
            fields += [(f"{name}[{index}]", inner) for index, inner in enumerate(value)]
        else:
            fields.append((name, str(value)))
    return fields


OPERATIONS: list[Operation] = [
    ("GET", PATH, list_),
    ("GET", f"{PATH}/{{object_id}}", retrieve),
]
