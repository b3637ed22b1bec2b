"""One page of a list, and the filters that all lists know (docs.stripe.com/api/pagination)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from infra.sandbox.stripe.params import InvalidParameter
from infra.sandbox.stripe.store import Obj, missing

LARGEST_PAGE = 100
USUAL_PAGE = 10
BOUNDS: dict[str, Callable[[int, int], bool]] = {
    "gt": int.__gt__,
    "gte": int.__ge__,
    "lt": int.__lt__,
    "lte": int.__le__,
}


def page_of(every: list[Obj], params: Obj, url: str) -> Obj:
    """`every` is sorted newest first."""
    limit, fits = limit_of(params), within(params.get("created"), int)
    every = [one for one in every if "created" not in params or fits(one["created"])]
    after, before = params.get("starting_after"), params.get("ending_before")
    if before:
        every = every[: _position(every, before, "ending_before")]
        data = every[-limit:]
    else:
        every = every[_position(every, after, "starting_after") + 1 :] if after else every
        data = every[:limit]
    return {"object": "list", "url": url, "has_more": len(every) > limit, "data": data}


def limit_of(params: Obj) -> int:
    given = str(params.get("limit") or USUAL_PAGE)
    if not given.isdecimal() or not 1 <= int(given) <= LARGEST_PAGE:
        raise InvalidParameter("Invalid integer: limit must be between 1 and 100", param="limit")
    return int(given)


def within(wanted: Any, read: Callable[[str], int]) -> Callable[[int], bool]:
    """The `created` filter: an exact second, or gt, gte, lt, lte. Raises InvalidParameter for what cannot be read."""
    try:
        if not isinstance(wanted, dict):
            exact = read(wanted) if wanted else None
            return lambda moment: exact is None or moment == exact
        limits = [(BOUNDS[name], read(limit)) for name, limit in wanted.items()]
    except (KeyError, ValueError, TypeError):
        raise InvalidParameter("Invalid created filter", param="created") from None
    return lambda moment: all(holds(moment, limit) for holds, limit in limits)


def _position(every: list[Obj], object_id: str, param: str) -> int:
    for index, one in enumerate(every):
        if one["id"] == object_id:
            return index
    raise missing("object", object_id, param)
