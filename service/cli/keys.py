"""`python -m service keys ...`: which encryption key has sealed how much, and bringing all of it under the newest."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import typer

from service.cli._running import as_maintenance
from service.core.settings import get_settings, insist_on

if TYPE_CHECKING:
    from service.core.database import Database

T = TypeVar("T")
keys = typer.Typer(no_args_is_help=True, help="The keys of ENCRYPTION_KEYS.")


@keys.command()
def status() -> None:
    """Count what each key has sealed. A key with 0 may be taken out. Exit 1 when rows need a key that is not there."""
    from service.core.crypto import keyring
    from service.guardrails.resealing import PLAIN, MissingKeys, count_values, note_keys

    async def count(database: Database) -> tuple[dict[int, Counter[str]], str]:
        async with database.unit_of_work(read_only=True) as work:
            counted = await count_values(work.raw)
        try:
            # Other processes believe the note: it must not ask for a key that is called spare here.
            await note_keys(database)
        except MissingKeys as error:
            return counted, str(error)
        return counted, ""

    (found, problem), ours = _run(count), keyring()
    missing = found.keys() - ours.ids - {PLAIN}
    for key_id in sorted(found.keys() | ours.ids):
        counted = found.get(key_id, Counter())
        where = ", ".join(f"{name} {rows:,}" for name, rows in sorted(counted.items()))
        if key_id == PLAIN:
            typer.echo(f"not sealed: {where}. `python -m service keys rotate`, or the worker's next round, seals it")
            continue
        told = "seals what is written" if key_id == ours.newest else ""
        if key_id in missing:
            told = "MISSING: put it back, at the end of ENCRYPTION_KEYS"
        elif not told:
            told = "must stay for now" if counted.total() else "may be taken out"
        typer.echo(f"key {key_id}: {counted.total():,} values{f' ({where})' if where else ''}; {told}")
    if problem and not missing:
        typer.echo(problem)
    raise typer.Exit(1 if problem else 0)


@keys.command()
def rotate() -> None:
    """Bring everything under the newest key now, instead of when the worker comes by; may be stopped and repeated."""
    from service.guardrails.resealing import note_keys, reseal

    async def move(database: Database) -> Counter[str]:
        done: Counter[str] = Counter()
        await note_keys(database)  # before anything is sealed with a key that others do not have
        while found := await reseal(database):
            done += found
        await note_keys(database)
        return done

    done = _run(move)
    typer.echo(f"{done.total():,} values are under another key now")


def _run(use: Callable[[Database], Awaitable[T]]) -> T:
    from service.catalog import load_tables
    from service.guardrails.resealing import MissingKeys

    insist_on(get_settings(), "database_maintenance_url")
    load_tables()
    try:
        return asyncio.run(as_maintenance(use))
    except MissingKeys as error:
        raise SystemExit(str(error)) from None
