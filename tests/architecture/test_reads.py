"""A reading in the log says which rows (guardrails.hipaa): by what a query gives, or by what it was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args, get_type_hints
from uuid import UUID

from pydantic import BaseModel

from service.core.database import Base
from service.core.features import load
from service.features import FEATURES
from service.guardrails.hipaa import DEEP
from tests.architecture.test_actions import public_functions

OWN = "the asking person's own, and the row says who asked"
OURS = "about the service and nobody"
NUMBERED = "its rows have numbers, or are known by what the database gives: they are noted"
NAMELESS = {
    "accounts.get_totp_offer": OWN,
    "accounts.list_devices": OWN,
    "admin.list_declared_flags": OURS,
    "admin.list_switches": OURS,
    "admin.system": OURS,
    "audit_log.read_check": OURS,
    "billing.facts": OURS,
    "billing.list_invoices": "the organization's own, which the row names",
    "billing.staff_find": NUMBERED,
    "billing.staff_messages": NUMBERED,
    "consents.list": OWN,
    "erasure.list_kept": OURS,
    "files.used": "two sums",
    "imports.choices": "names of the organization's indicators to choose from; the row names the organization",
    "notifications.list_choices": OWN,
    "organizations.list_my_invitations": OWN,
    "organizations.read_invitation": OWN,
}
"""What has no ids to give, and why nobody misses them."""
WORDS = {bool, int, float, str, bytes, type(None)}


def types_in(given: Any, depth: int = DEEP) -> Iterator[Any]:
    """The type, what it is made of, and what its fields are."""
    yield given
    inner = list(get_args(given))
    if depth and isinstance(given, type) and is_dataclass(given):
        hints = get_type_hints(given)
        inner += [hints[one.name] for one in fields(given)]
    elif depth and isinstance(given, type) and issubclass(given, BaseModel):
        inner += [one.annotation for one in given.model_fields.values()]
    for one in inner:
        yield from types_in(one, depth - 1)


def says_which(query: Callable[..., Any]) -> bool:
    """Whether the note of it can name rows; a number or a word gets no note at all."""
    hints = get_type_hints(query)
    result = hints.pop("return")
    hints.pop("ctx")
    parts = set(get_args(result)) or {result}
    if parts <= WORDS:
        return True
    found = [one for each in hints.values() for one in types_in(each, 1)] + list(types_in(result))
    return any(one is UUID or (isinstance(one, type) and issubclass(one, Base)) for one in found)


def queries() -> dict[str, Callable[..., Any]]:
    found: dict[str, Any] = {}
    for _, module in load(FEATURES, "queries"):
        found |= {thing.rule.name: thing for _, thing in public_functions(module) if hasattr(thing, "rule")}
    return found


def test_each_reading_can_say_which_rows_it_showed() -> None:
    seen = queries()
    assert len(seen) >= 85, f"the scan saw only {sorted(seen)}"
    silent = {name for name, query in seen.items() if not says_which(query)}
    assert silent == set(NAMELESS), (
        f"new: {sorted(silent - set(NAMELESS))}; gone: {sorted(set(NAMELESS) - silent)}. Give the rows their ids, ask "
        "with one, or say here why the note may go without"
    )


def test_a_reading_without_rows_is_found() -> None:
    @dataclass
    class Nobody:
        name: str

    async def silent(ctx: object, page: int) -> list[Nobody]:
        return []

    async def asks(ctx: object, person: UUID) -> list[Nobody]:
        return []

    silent.__annotations__["return"] = asks.__annotations__["return"] = list[Nobody]
    assert (says_which(silent), says_which(asks)) == (False, True)
