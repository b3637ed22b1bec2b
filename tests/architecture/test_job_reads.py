"""Every job that can read people's data serves a purpose that asks them, or says in a reviewed list why it need not.

What a job can read is followed from its body through everything it names, and not run: names are looked up in their
module, functions of features are followed, and models, prepared statements, selects and SQL in text say their tables.
A branch that is never taken counts, too. Limits: a table whose name is put together at run time is not seen, nor what a
job that is listed begins to do besides; whom it may send anything to is tests/architecture/test_reach.py.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest
from sqlalchemy import Column, Table, bindparam, select
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ClauseElement

from service.catalog import load_tables
from service.core.context import Context
from service.core.features import load
from service.core.statements import Prepared
from service.features import FEATURES
from service.features.accounts.models import User
from service.guardrails.jobs import JOBS, Event, Retry
from service.guardrails.jobs.registry import STANDING, USUAL_TIMEOUT, Job
from service.guardrails.pagination import Keyset
from service.guardrails.personal_data import CATEGORIES, Protection, privacy_of
from service.guardrails.purposes import SERVED
from tests.architecture.reviewed import JOBS_BY_THE_CLOCK, JOBS_OF_PEOPLE

LEAST_JOBS, LEAST_TABLES = 55, 12
NUMBERS = ("subject", "pseudonym", "credentials")
"""Categories that say nothing about a person to whoever has only them."""
IN_TEXT = re.compile(r"\b(?:FROM|JOIN|UPDATE|INTO)\s+\"?(\w+)", re.IGNORECASE)


@functools.cache
def personal_tables() -> frozenset[str]:
    """Those with more about a person than the random number that stands for them."""
    return frozenset(table.name for table in load_tables().tables.values() if any(map(_tells, table.columns)))


def _tells(column: Column[Any]) -> bool:
    privacy = privacy_of(column)
    if privacy is None or privacy.protection is Protection.PERSONAL:
        return True
    return CATEGORIES[privacy.category].is_personal and privacy.category not in NUMBERS


def personal_reads(body: Callable[..., Any]) -> dict[str, str]:
    """Table -> the names that lead to it from the body."""
    seen: set[Any] = set()
    found: dict[str, str] = {}
    ahead: list[tuple[Any, str]] = [(body, "")]
    while ahead:
        function, way = ahead.pop()
        function = inspect.unwrap(getattr(function, "func", function))
        if function in seen:
            continue
        seen.add(function)
        for name, thing in _named(function):
            step = f"{way} {name}".strip()
            if isinstance(thing, FunctionType | functools.partial) and _is_ours(thing):
                ahead.append((thing, step))
            elif isinstance(thing, type) and not hasattr(thing, "__table__") and _is_ours(thing):
                ahead += [(one, step) for one in vars(thing).values() if isinstance(one, FunctionType)]
            for table in tables_of(thing) & personal_tables():
                found.setdefault(table, step)
    return found


def tables_of(thing: Any) -> set[str]:
    """What a model, a statement or a text says it reads or writes."""
    if isinstance(thing, str):
        return set(IN_TEXT.findall(thing))
    if isinstance(thing, type):
        return {thing.__table__.name} if hasattr(thing, "__table__") else set()
    if isinstance(thing, Prepared | Keyset):
        return set().union(*(tables_of(getattr(thing, name, None)) for name in ("statement", "_statement")))
    if isinstance(thing, ClauseElement):
        return {one.name for one in visitors.iterate(thing) if isinstance(one, Table)}
    return set()


def _is_ours(thing: Any) -> bool:
    return str(getattr(inspect.unwrap(getattr(thing, "func", thing)), "__module__", "")).startswith("service.features.")


def _named(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Everything a function names that its module knows: `actions.open` is looked up in both."""
    for code in _codes(function.__code__):
        yield from (("text", text) for text in code.co_consts if isinstance(text, str))
        for name in code.co_names:
            thing = function.__globals__.get(name)
            yield name, thing
            if isinstance(thing, ModuleType) and thing.__name__.startswith("service."):
                yield from ((f"{name}.{inner}", vars(thing).get(inner)) for inner in code.co_names)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _codes(one)


def unexplained() -> dict[str, str]:
    """Job -> the personal tables it can read, with the way to each, or why its row in the list is of no use."""
    load(FEATURES, "jobs")
    serving = {place for places in SERVED.values() for place in places}
    bodies = {name: job.body for name, job in JOBS.items()} | STANDING
    reading = {name: reads for name, body in bodies.items() if (reads := personal_reads(body))}
    assert len(reading) >= LEAST_JOBS, f"the scan saw only {len(reading)} jobs that read people's data"
    assert len(personal_tables()) >= LEAST_TABLES, f"the scan knows only {sorted(personal_tables())}"
    listed = [name for names in JOBS_OF_PEOPLE.values() for name in names]
    found = {
        name: ", ".join(f"{table} through {way}" for table, way in reads.items())
        for name, reads in reading.items()
        if name not in {*listed, *JOBS_BY_THE_CLOCK} and _place(bodies[name]) not in serving
    }
    return found | dict.fromkeys(_useless(listed, reading), "is listed, and reads nobody's data, or stands twice")


def _place(body: Callable[..., Any]) -> str:
    return f"{body.__module__}.{getattr(body, '__name__', '')}"


def _useless(listed: list[str], reading: dict[str, Any]) -> set[str]:
    return {name for name in listed if name not in reading or listed.count(name) > 1}


def test_every_job_that_reads_people_says_what_for() -> None:
    found = unexplained()
    assert not found, (
        f"{found}: is it for something the product would work without, a CRM or a statistic? Then declare a purpose, "
        "say @serves(PURPOSE) and ask permitted(). Otherwise say why not in JOBS_OF_PEOPLE (architecture/reviewed.py)"
    )


CRM = "https://crm.example/people"
WANTED = Prepared(select(User.email).where(User.id == bindparam("id")))


async def post(url: str, what: object) -> None: ...


async def _names_a_model(ctx: Context, event: Event) -> None:
    user = await ctx.db.get_one(User, event.object_id)
    await post(CRM, user.email)


async def _asks_a_statement(ctx: Context, event: Event) -> None:
    await post(CRM, await ctx.fetch_one(WANTED, id=event.object_id))


async def _writes_sql(ctx: Context, event: Event) -> None:
    rows = await ctx.work.raw.fetch("SELECT email FROM users WHERE id = $1", event.object_id)
    await post(CRM, rows)


async def _leaves_it_to_a_helper(ctx: Context, event: Event) -> None:
    async def ask() -> None:
        await _names_a_model(ctx, event)

    await ask()


async def _uses_nobody(ctx: Context, event: Event) -> None:
    await post(CRM, event.action)


async def _serves_one(ctx: Context, event: Event) -> None:
    await _names_a_model(ctx, event)


@pytest.mark.parametrize("body", [_names_a_model, _asks_a_statement, _writes_sql, _leaves_it_to_a_helper])
def test_whoever_pushes_people_to_a_crm_is_seen(body: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever way a job comes to the address; what uses nobody's data needs no row, nor what asks people."""

    def is_a_job(name: str, job: Any) -> None:
        monkeypatch.setattr(job, "__module__", "service.features.crm.jobs")
        monkeypatch.setitem(JOBS, name, Job(name, job, None, Retry(), USUAL_TIMEOUT, maintenance=False))

    monkeypatch.setattr(_names_a_model, "__module__", "service.features.crm.helpers")
    is_a_job("crm.count_logins", _uses_nobody)
    is_a_job("crm.serve", _serves_one)
    monkeypatch.setitem(SERVED, "crm", ["service.features.crm.jobs._serves_one"])
    assert not unexplained()
    is_a_job("crm.push", body)
    assert set(unexplained()) == {"crm.push"}
    with pytest.raises(AssertionError, match=r"crm\.push.*users through"):
        test_every_job_that_reads_people_says_what_for()
    monkeypatch.setitem(JOBS_OF_PEOPLE, "a reason", ("crm.push", "crm.count_logins"))
    assert set(unexplained()) == {"crm.count_logins"}, "a row that is not needed hides the next one of this name"
