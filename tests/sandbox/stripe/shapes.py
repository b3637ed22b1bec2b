"""Compare an object from the wire with the classes of Stripe's library: names, what must be there, and types."""

from __future__ import annotations

import types
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ForwardRef, Literal, Union, get_args, get_origin

import stripe
from stripe._object_classes import get_object_class

PRIMITIVES: dict[Any, tuple[type, ...]] = {
    str: (str,),
    int: (int,),
    float: (int, float),
    # Exact numbers travel as text.
    Decimal: (str,),
    Any: (object,),
}


@dataclass
class Comparison:
    """What was found out so far."""

    problems: set[str] = field(default_factory=set)
    kinds: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)

    def compare(self, obj: dict[str, Any]) -> None:
        """An object that says what it is."""
        kind = obj["object"]
        cls = get_object_class("V1", kind)
        if cls is stripe.StripeObject:
            self.problems.add(f"{kind}: the library knows no such object")
            return
        self.kinds.add(kind)
        self._members(obj, cls, kind)

    def _members(self, obj: dict[str, Any], cls: type, path: str) -> None:
        hints = {
            name: hint for base in reversed(cls.__mro__) for name, hint in vars(base).get("__annotations__", {}).items()
        }
        for name, value in obj.items():
            if name not in hints:
                self.problems.add(f"{path}.{name}: unknown")
                continue
            self.fields.add(f"{path}.{name}")
            if not self._fits(value, hints[name], f"{path}.{name}"):
                self.problems.add(f"{path}.{name}: {value!r:.60} is not {hints[name]}")
        for name, hint in hints.items():
            if name not in obj and name == name.lower() and not name.startswith("_") and not _may_be_absent(hint):
                self.problems.add(f"{path}.{name}: missing")

    def _fits(self, value: Any, hint: Any, path: str) -> bool:
        origin, arguments = get_origin(hint), get_args(hint)
        if hint is type(None) or value is None:
            return value is None and (hint is type(None) or type(None) in arguments)
        if origin in (Union, types.UnionType):
            return any(self._fits(value, one, path) for one in arguments)
        if origin is Literal:
            return value in arguments
        if origin is list:
            return isinstance(value, list) and all(self._fits(one, arguments[0], f"{path}[]") for one in value)
        if hint in PRIMITIVES:
            return isinstance(value, PRIMITIVES[hint]) and not (isinstance(value, bool) and hint is not Any)
        if hint is bool:
            return isinstance(value, bool)
        return self._fits_object(value, hint, path)

    def _fits_object(self, value: Any, hint: Any, path: str) -> bool:
        if not isinstance(value, dict):
            return False
        if isinstance(hint, ForwardRef | str) or get_origin(hint) is stripe.ListObject or _is_named(value):
            return self._named(value)
        if isinstance(hint, type):
            self._members(value, hint, path)
        return True

    def _named(self, value: dict[str, Any]) -> bool:
        if not _is_named(value):
            return False
        if value["object"] != "list":
            self.compare(value)
            return True
        for one in value["data"]:
            self.compare(one)
        return {"data", "has_more", "url"} <= value.keys()


def _is_named(value: dict[str, Any]) -> bool:
    return isinstance(value.get("object"), str)


def _may_be_absent(hint: Any) -> bool:
    return get_origin(hint) is Union and type(None) in get_args(hint)
