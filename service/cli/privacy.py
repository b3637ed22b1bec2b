"""`python -m service privacy ...`: the data map, and the record of processing that is made from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.core.settings import get_settings, insist_on

if TYPE_CHECKING:
    from service.core.context import Resources

privacy = typer.Typer(no_args_is_help=True, help="What personal data is where, and why.")

RECORD = Path("docs/compliance/record-of-processing.md")


@privacy.command("map")
def show_map(
    form: Annotated[str, typer.Option("--format", help="csv or markdown")] = "csv",
) -> None:
    """Print every column, store and processor with purpose, basis, period, erasure and export."""
    from service.catalog import load_tables
    from service.guardrails.data_map import record

    if form not in ("csv", "markdown"):
        raise SystemExit("--format is csv or markdown")
    tables = load_tables()
    typer.echo(record.as_csv(tables) if form == "csv" else record.as_markdown(tables), nl=False)


@privacy.command("record")
def write_record(
    out: Annotated[Path, typer.Option(help="Where to write it.")] = RECORD,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 when the file is out of date.")] = False,
) -> None:
    """Write the record of processing activities (GDPR Art. 30); names the agreements that are still to be signed."""
    from service.catalog import load_tables
    from service.guardrails.data_map import PROCESSORS
    from service.guardrails.data_map.processors import agreements
    from service.guardrails.data_map.record import record

    settings = get_settings()
    made = record(load_tables(), settings)
    if check and (not out.exists() or out.read_text() != made):
        typer.echo(f"{out} is out of date: run `python -m service privacy record`", err=True)
        raise typer.Exit(1)
    if not check:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(made)
    open_ones = [
        name
        for name, one in PROCESSORS.items()
        if one.needs_agreement and name not in agreements(settings.processor_agreements)
    ]
    if open_ones:
        typer.echo(f"no agreement entered in PROCESSOR_AGREEMENTS for: {', '.join(open_ones)}", err=True)


@privacy.command("replay-erasures")
def replay_erasures() -> None:
    """After a restore: erase again whom the backup brought back. Run it before anybody is served."""
    import asyncio

    from service.cli._running import with_resources
    from service.features.erasure.flows.machine import replay_all

    settings = get_settings()
    insist_on(settings, "database_maintenance_url")
    begun, open_ones = asyncio.run(with_resources(replay_all, maintenance=True))
    typer.echo(f"{begun} erasures were done again; {open_ones} could not be finished and go on in the worker")
    raise typer.Exit(1 if open_ones else 0)


@privacy.command("copy")
def copy_for(
    email: Annotated[str, typer.Argument(help="The address of their account.")],
    out: Annotated[Path, typer.Option(help="The archive to write; a file that is not there yet.")],
    reason: Annotated[str, typer.Option(help="How they proved who they are, and a ticket; it stands in the log.")],
) -> None:
    """A copy of their data (GDPR Art. 15) for who cannot log in: ops/access-request.md says when, and for whom."""
    import asyncio

    from service.cli._running import with_resources
    from service.features.privacy.flows.letter import write_copy

    settings = get_settings()
    insist_on(settings, "database_maintenance_url")

    async def write(resources: Resources) -> int:
        return await write_copy(resources, resources.as_maintenance, email, reason, out)

    size = asyncio.run(with_resources(write, maintenance=True))
    typer.echo(f"{out}: {size} bytes. They get a mail that says so. Hand it over as you checked, then delete it.")
