"""Emergency rights from a shell, for when nobody of staff can come in (guardrails.break_glass)."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from service.cli._running import as_system

Email = Annotated[str, typer.Argument(help="The address of their account.")]

break_glass = typer.Typer(no_args_is_help=True, help="Emergency rights: an hour at most, alarmed, and reviewed.")


@break_glass.command("open")
def open_rights(
    email: Email,
    reason: Annotated[str, typer.Option(help="A sentence; all of staff read it.")],
    minutes: Annotated[int, typer.Option(help="1 to 60.")] = 60,
) -> None:
    """Make a named person staff with emergency rights; prints a code that stands in for their second factor, once."""
    from service.features.support import actions

    opened = asyncio.run(as_system(lambda ctx: actions.open_break_glass(ctx, email, reason, minutes)))
    typer.echo(f"{email} has emergency rights until {opened.ends_at:%H:%M} UTC; they log in anew.")
    typer.echo(f"Where the login asks for a code, their app's will do, or this one, once: {opened.code}")
    typer.echo("It wakes whoever is on call, and a colleague has to review it: /staff/break-glass")


@break_glass.command("close")
def close_rights(email: Email) -> None:
    """End them before their time; the person's sessions end, too."""
    from service.features.support import actions

    asyncio.run(as_system(lambda ctx: actions.close_break_glass(ctx, email)))
    typer.echo(f"{email} has no emergency rights any more")


@break_glass.command("review")
def review_rights(
    grant: Annotated[UUID, typer.Argument(help="The id, as /staff/break-glass or the mail has it.")],
    by: Annotated[str, typer.Option(help="The address of the colleague who reviewed it; not whoever had them.")],
    note: Annotated[str, typer.Option(help="What they found.")],
) -> None:
    """Note a review while nobody can open the page; it counts once the colleague has confirmed it there."""
    from service.features.support import actions

    asyncio.run(as_system(lambda ctx: actions.record_review(ctx, grant, by, note)))
    typer.echo(f"noted for {by}, who has to confirm it: /staff/break-glass/{grant}; until then the alert stays")
    typer.echo("They and all of staff get a mail that says so.")
