"""Small parts that many of Stripe's objects have."""

from __future__ import annotations

import json
from typing import Any

from infra.sandbox.stripe.store import Obj


def nulls(names: str) -> Obj:
    """Fields that are there and empty."""
    return dict.fromkeys(names.split())


def copied(value: Any) -> Any:
    """A deep copy by way of JSON, which is several times as fast as the other way."""
    return json.loads(json.dumps(value))


def listing(data: list[Obj], url: str) -> Obj:
    """A list inside an object."""
    return {"object": "list", "data": data, "has_more": False, "total_count": len(data), "url": url}


def id_of(value: Any) -> str:
    """The id, whether a field holds an object or only its id."""
    return value["id"] if isinstance(value, dict) else str(value)
