"""What was given up on, wherever it happened: each feature declares its kinds in admin.py, one page of staff shows all.

    DEAD_LETTERS = [
        DeadLetters("mail", "Mail events", "What was not understood.", count=queries.count_dead_events,
                    list=queries.list_dead_events, replay=actions.replay_events, discard=actions.discard_events)
    ]

Each kind is a listing of the panel (`declared`), with replaying and discarding as its acts. `q` is what somebody looks
for: an id, a whole name, or nothing for all. `Lists` answers that from three prepared statements whose columns are
called like those of `Letter`; `inbox` makes them for messages that came from outside.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BeforeValidator, Field, StringConstraints
from sqlalchemy import BigInteger, ColumnElement, Select, bindparam, func, literal_column, null, select

from service.core.context import Context
from service.core.schemas import Input, Line, Output
from service.core.statements import Prepared
from service.guardrails.inbox import InboxMessage
from service.guardrails.pagination import Keyset, Page, Position, paginate
from service.guardrails.staff_reasons import Reason
from service.web.staff.declared import ORGANIZATION, Act, Column, Declared, Listing

HOME = "/staff/dead-letters"
MOST_COUNTED = 1_000
"""A thousand say as much as a million: look into it."""
AT_ONCE = 1_000
"""Replayed or discarded by one press; the oldest first, and the page says that there are more."""


class Sought(Input):
    q: Annotated[Line, StringConstraints(max_length=255)] = Field(
        "", title="Which", description="A whole name, or the id of one; empty for all."
    )


class Which(Sought):
    """All that fit, and why."""

    reason: Reason


class Letter(Output):
    """Something that was given up on. `error` is our word for what went wrong, never a text of somebody's."""

    id: Annotated[str, BeforeValidator(str)]
    name: str
    organization_id: UUID | None
    error: str | None
    attempts: int
    gave_up_at: datetime


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """One kind: how many, which, and what can be done about them."""

    key: str
    title: str
    hint: str
    runbook: str
    count: Callable[[Context], Awaitable[int]]
    list: Callable[[Context, Sought, Position], Awaitable[Page[Letter]]]
    replay: Callable[[Context, str, str], Awaitable[int]]
    discard: Callable[[Context, str, str], Awaitable[int]] | None = None
    href: str = ""
    """Where one of them is looked at more closely; its id follows."""


class Lists:
    """All of a kind, those of one name, and the one with an id; each its own statement, so that an index fits it."""

    def __init__(
        self,
        statement: Select[*tuple[Any, ...]],
        *,
        order: tuple[Any, ...],
        name: Any,
        identifier: Any,
        across_tenants: bool = False,
    ) -> None:
        self._statement, self._name, self._id = statement, name, identifier
        self._across_tenants = across_tenants
        of_name, of_id = (column == bindparam("sought", type_=column.type) for column in (name, identifier))
        self._lists = {
            "": Keyset(statement, order=order, across_tenants=across_tenants),
            "name": Keyset(statement.where(of_name), order=order, across_tenants=across_tenants),
            "id": Keyset(statement.where(of_id), order=order, across_tenants=across_tenants),
        }
        some = statement.with_only_columns(identifier).limit(literal_column(str(MOST_COUNTED))).subquery()
        self._count = Prepared(select(func.count().label("count")).select_from(some), across_tenants=across_tenants)

    async def count(self, ctx: Context) -> int:
        """At most MOST_COUNTED."""
        row = await ctx.fetch_one(self._count)
        return int(row["count"]) if row else 0

    async def page(self, ctx: Context, wanted: Sought, page: Position) -> Page[Letter]:
        by, value = self._read(wanted.q)
        return await paginate(ctx, self._lists[by], page, Letter, **({"sought": value} if by else {}))

    def terms(self, sought: str) -> list[ColumnElement[bool]]:
        """What the rows that the list shows have in common, for the statement that changes them."""
        by, value = self._read(sought)
        column = {"name": self._name, "id": self._id}.get(by)
        return [] if column is None else [column == value]

    def _read(self, sought: str) -> tuple[str, Any]:
        """What is meant by it: nothing, an id, or else a name."""
        if not sought:
            return "", None
        if self._id.type.python_type is int:
            bound = 2**63 if isinstance(self._id.type, BigInteger) else 2**31
            whole = sought.isascii() and sought.isdecimal() and len(sought) < 20 and int(sought) < bound
            return ("id", int(sought)) if whole else ("name", sought)
        try:
            return "id", UUID(sought)
        except ValueError:
            return "name", sought


def inbox(*only: ColumnElement[bool]) -> Lists:
    """Messages from outside, by their type or number."""
    columns = (
        InboxMessage.id,
        InboxMessage.type.label("name"),
        null().label("organization_id"),
        InboxMessage.last_error.label("error"),
        InboxMessage.attempts,
        InboxMessage.received_at.label("gave_up_at"),
    )
    newest = (InboxMessage.id.desc(),)
    return Lists(select(*columns).where(*only), order=newest, name=InboxMessage.type, identifier=InboxMessage.id)


def declared(kinds: Iterable[DeadLetters]) -> Iterator[Declared]:
    """A listing for each kind, with what can be done about those that its search shows."""
    kinds = list(kinds)
    tabs = (("All kinds", HOME), *((kind.title, f"{HOME}/{kind.key}") for kind in kinds))
    for kind in kinds:
        here = f"{HOME}/{kind.key}"
        yield Listing(
            here,
            f"{kind.title} given up on",
            kind.list,
            wanted=Sought,
            columns=(
                Column("Id", "id", link=f"{kind.href}{{id}}" if kind.href else f"{here}?q={{id}}", kind="break"),
                Column("Name", "name", link=f"{here}?q={{name}}", kind="break"),
                ORGANIZATION,
                Column("What went wrong", "error", kind="break"),
                Column("Attempts", "attempts", kind="num"),
                Column("Gave up", "gave_up_at"),
            ),
            lead=f"{kind.hint} The runbook is ops/runbooks/{kind.runbook}.md.",
            empty=("Nothing was given up on", "Or nothing of this name or id: names must be given whole."),
            tabs=tabs,
            on_home=False,
        )
        most = f"All that fit, the oldest first: up to {AT_ONCE:,} at once."
        yield Act(
            here, "replay", "Try again", kind.replay, form=Which, whole=True, hint=most, done=_done("tried again")
        )
        if kind.discard:
            hint = f"{most} What they would have done is never done."
            yield Act(
                here, "discard", "Discard", kind.discard, form=Which, whole=True, hint=hint, done=_done("discarded"),
                danger=True,
            )  # fmt: skip


def _done(word: str) -> Callable[[int], str]:
    def said(count: int) -> str:
        more = " The rest is still here: press again." if count >= AT_ONCE else ""
        return f"{count:,} {'is' if count == 1 else 'are'} {word}.{more}"

    return said
