"""The `expand` parameter: replace an id by its object, at any depth (docs.stripe.com/api/expanding_objects)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from infra.sandbox.stripe.objects import copied
from infra.sandbox.stripe.store import Account, Obj, StripeError

DEEPEST = 4
# Lists that an object shows only to those who ask.
HIDDEN: dict[tuple[str, str], Callable[[Account, Obj], Any]] = {}


def expanded(account: Account, result: Obj, paths: list[str]) -> Obj:
    """A copy of the result with these paths expanded. Raises StripeError for a path that leads nowhere."""
    shown: Obj = copied(result)
    for path in paths:
        parts = path.split(".")
        if len(parts) - parts.count("data") > DEEPEST:
            raise StripeError("You cannot expand more than 4 levels of a property", param="expand")
        _expand(account, shown, parts, path)
    return shown


def _expand(account: Account, node: Any, parts: list[str], path: str) -> None:
    if isinstance(node, list):
        for one in node:
            _expand(account, one, parts, path)
        return
    if not isinstance(node, dict) or not parts:
        return
    name, rest = parts[0], parts[1:]
    hidden = HIDDEN.get((str(node.get("object")), name))
    if name not in node and hidden:
        node[name] = copied(hidden(account, node))
    elif name not in node:
        text = f"This property cannot be expanded ({path})."
        raise StripeError(text, param="expand")
    value = node[name]
    if isinstance(value, str) and (found := account.store.find(value)):
        node[name] = copied(found)
    _expand(account, node[name], rest, path)
