"""The command line (`python -m service --help` lists it). Imports are lazy: help is instant."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from service.cli._running import Commands, as_maintenance, as_system
from service.cli.billing import billing
from service.cli.break_glass import break_glass
from service.cli.keys import keys
from service.cli.privacy import privacy
from service.core.settings import InsecureSettings, get_settings, insist_on

if TYPE_CHECKING:
    from service.core.database import Database
    from service.guardrails.audit import Report

Email = Annotated[str, typer.Argument(help="The address of their account.")]

cli = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a traceback of 645 lines drowned the one that said what was wrong
    help="Ballast: the production-hardened SaaS template.",
)
audit = typer.Typer(no_args_is_help=True, help="The append-only audit log.")
jobs = typer.Typer(no_args_is_help=True, help="Background jobs and their dead letters.")
staff = typer.Typer(no_args_is_help=True, help="Who may open the staff panel.")
cli.add_typer(audit, name="audit")
cli.add_typer(jobs, name="jobs")
cli.add_typer(staff, name="staff")
cli.add_typer(billing, name="billing")
cli.add_typer(break_glass, name="break-glass")
cli.add_typer(keys, name="keys")
cli.add_typer(privacy, name="privacy")


@cli.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
) -> None:
    """Answer requests. One process; run more containers, not more processes: each keeps its own metrics."""
    import uvicorn

    from service.app import create_app
    from service.guardrails.wire import BoundedHttp

    settings = get_settings()
    uvicorn.run(
        create_app(settings),
        http=BoundedHttp,
        host=host,
        port=port,
        access_log=False,
        log_config=None,
        server_header=False,
        # The client address is computed by guardrails.addresses from TRUSTED_PROXIES; uvicorn trusts loopback.
        proxy_headers=False,
        timeout_graceful_shutdown=settings.graceful_timeout_seconds,
        # Longer than load balancers keep an idle connection (60 s is usual): a request that goes down one which is
        # just being closed ends as their 502.
        timeout_keep_alive=75,
    )


@cli.command()
def worker(
    host: Annotated[str, typer.Option(help="Address for probes and metrics.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port for probes and metrics; 0 for none.")] = 0,
) -> None:
    """Run background jobs until told to stop; finishes what runs, hands back the rest."""
    from service.worker import run

    settings = get_settings()
    insist_on(settings, "database_maintenance_url", "audit_seal_key")
    asyncio.run(run(settings, host=host, port=port))


@cli.command()
def migrate() -> None:
    """Bring the database to this code's schema, as the owner role."""
    from service.core.migrate import head, upgrade

    insist_on(get_settings(), "database_owner_url")
    upgrade()
    typer.echo(f"database is at {head()}")


@cli.command()
def seed(
    webhook_url: Annotated[str, typer.Option(help="address of a receiver that the first organization tells")] = "",
    prices: Annotated[bool, typer.Option("--prices", help="only what is sold, in the stand-in for Stripe")] = False,
) -> None:
    """Plant the demo: organizations, people, indicators and 90 days of readings. Prints the logins as JSON."""
    if prices:
        from service.features.billing.flows import catalogue

        typer.echo(json.dumps({"prices": asyncio.run(catalogue.stock(get_settings()))}))
        return
    from service.seed import plant, plant_webhooks

    logins = asyncio.run(plant(get_settings()))
    secrets = asyncio.run(plant_webhooks(get_settings(), webhook_url)) if webhook_url else []
    typer.echo(json.dumps({"logins": logins, "webhook_secrets": secrets}))


@cli.command()
def doctor() -> None:
    """Check every dependency and the connection arithmetic; says what is wrong and what to do. Exit 1 on trouble."""
    from service.doctor import examine

    healthy = True
    for finding in asyncio.run(examine(get_settings())):
        healthy &= finding.ok
        typer.echo(f"{'ok  ' if finding.ok else 'FAIL'} {finding.what}: {finding.detail}")
    raise typer.Exit(0 if healthy else 1)


@cli.command()
def invariants() -> None:
    """Check now what must always be true of the data; names what breaks it. Exit 1 when anything does."""
    from service.worker import examine

    insist_on(get_settings(), "database_maintenance_url")
    broken = 0
    for sentence, examples in asyncio.run(examine(get_settings())).items():
        broken += bool(examples)
        typer.echo(f"{'FAIL' if examples else 'ok  '} {sentence}" + "".join(f"\n     {one}" for one in examples))
    raise typer.Exit(1 if broken else 0)


@cli.command()
def settings(
    check: Annotated[
        str, typer.Option(help="Compare with this file instead of printing; exit 1 when it differs.")
    ] = "",
) -> None:
    """Print every setting with its meaning and default, as .env.example."""
    from service.core.env_example import env_example

    if not check:
        typer.echo(env_example(), nl=False)
    elif Path(check).read_text() != env_example():
        typer.echo(f"{check} is out of date: run `python -m service settings > {check}`", err=True)
        raise typer.Exit(1)


@cli.command()
def evidence(out: Annotated[Path, typer.Option(help="Folder to write into.")]) -> None:
    """Write what an auditor of our controls asks for: settings by name, permissions, data map, checks, staff acts."""
    from service.cli.evidence import collect

    settings = get_settings()
    insist_on(settings, "database_maintenance_url", "audit_seal_key")
    for name in asyncio.run(as_maintenance(lambda database: collect(settings, database, out))):
        typer.echo(out / name)


@audit.command("verify")
def verify_audit(
    anchors: Annotated[Path | None, typer.Option(help="A log file with the worker's audit.sealed lines.")] = None,
    export: Annotated[Path | None, typer.Option(help="Write a bundle for an auditor into this file (zip).")] = None,
    organization: Annotated[UUID | None, typer.Option(help="Only this organization's rows go into the bundle.")] = None,
) -> None:
    """Recompute every row and seal; names each changed, missing, inserted, reordered or cut-off row. Exit 1 on any.

    What it exports is signed: an outsider checks it with verify.py and the key that `audit key` prints.
    """
    from service.guardrails.audit import bundle, verify

    settings = get_settings()
    insist_on(settings, "database_maintenance_url", "audit_seal_key")

    async def examine(database: Database) -> Report:
        found = await verify(database, settings, anchors)
        if export is not None:
            rows = await bundle.export(database, settings, export, found, organization)
            typer.echo(f"{export}: {rows} rows, signed with the key {bundle.public_key(settings)}")
        return found

    report = asyncio.run(as_maintenance(examine))
    for kind, what in report.problems:
        typer.echo(f"{kind}: {what}")
    if report.purged:
        typer.echo(f"{report.purged} sealed rows are gone because their time was over; their seals hold")
    typer.echo(f"{report.rows} rows in {report.segments} segments, {sum(report.counts.values())} problems")
    raise typer.Exit(0 if report.ok else 1)


@audit.command("touched")
def touched_by(
    since: Annotated[datetime, typer.Option(help="From when on, UTC: 2026-01-31T14:00:00.")],
    until: Annotated[datetime | None, typer.Option(help="Until when, UTC; otherwise until now.")] = None,
    session: Annotated[str, typer.Option(help="A session's 16 letters and digits, as the log has them.")] = "",
    key: Annotated[UUID | None, typer.Option(help="An API key's id, as /staff/api-keys has it.")] = None,
    address: Annotated[str, typer.Option(help="An IP address; the log knows its network (/24, /48).")] = "",
    actor: Annotated[UUID | None, typer.Option(help="An account's id: done by it, or by support for it.")] = None,
) -> None:
    """Whose data did a thief touch? Organizations, persons, kinds of records; what to ask next (ops/breach.md)."""
    from service.cli.touched import Suspect, touched

    insist_on(get_settings(), "database_maintenance_url")
    suspect = Suspect(session, key, address, actor)
    try:
        found = asyncio.run(as_maintenance(lambda database: touched(database, suspect, since, until)))
    except ValueError as error:
        raise SystemExit(str(error)) from None
    for line in found.lines():
        typer.echo(line)


@audit.command("key")
def audit_key() -> None:
    """Print the public key with which auditors check an exported log; give it to them apart from the bundle."""
    from service.guardrails.audit import bundle

    insist_on(get_settings(), "audit_seal_key")
    typer.echo(bundle.public_key(get_settings()))


@jobs.command("failed")
def failed_jobs() -> None:
    """List the dead letters, newest first."""
    from service.guardrails.jobs import failed

    async def read(database: Database) -> Any:
        async with database.unit_of_work(read_only=True) as work:
            return await failed(work)

    for letter in asyncio.run(as_maintenance(read)):
        typer.echo(json.dumps(asdict(letter), default=str))


@jobs.command("replay")
def replay_jobs(ids: Annotated[list[int], typer.Argument(help="Ids that `jobs failed` listed.")]) -> None:
    """Give dead letters their attempts back."""
    from service.guardrails.jobs import replay

    async def send(database: Database) -> int:
        async with database.unit_of_work() as work:
            return await replay(work, ids)

    typer.echo(f"{asyncio.run(as_maintenance(send))} of {len(ids)} will run again")


@staff.command("add")
def add_staff(email: Email) -> None:
    """Make an account staff, once it has a second factor; its sessions end."""
    from service.features.accounts import actions

    asyncio.run(as_system(lambda ctx: actions.add_staff(ctx, email)))
    typer.echo(f"{email} is staff")


@staff.command("remove")
def remove_staff(email: Email) -> None:
    """Make staff an ordinary account again; its sessions end."""
    from service.features.accounts import actions

    asyncio.run(as_system(lambda ctx: actions.remove_staff(ctx, email)))
    typer.echo(f"{email} is not staff any more")


def main() -> None:
    try:
        cli()
    except InsecureSettings as error:
        raise SystemExit(str(error)) from None
