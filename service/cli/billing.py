"""Commands about billing: what staff do on their pages, for whoever has a shell and no browser."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from service.cli._running import with_resources
from service.core.settings import get_settings, insist_on

if TYPE_CHECKING:
    from service.core.context import Resources

StripeCustomer = Annotated[str, typer.Option(help="Stripe's id of a customer (cus_...).")]

billing = typer.Typer(no_args_is_help=True, help="Our copy of what Stripe holds.")


@billing.command("resync")
def resync_billing(
    customer: StripeCustomer = "",
    organization: Annotated[UUID | None, typer.Option(help="The customers of this organization.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Every living customer, one after the other.")] = False,
) -> None:
    """Have customers read again from Stripe, also those that were given up on. The worker reads them."""
    if [bool(customer), bool(organization), everybody].count(True) != 1:
        raise typer.BadParameter("say one of --customer, --organization and --all")
    from service.features.billing.flows.resync import resync_customers

    count = asyncio.run(
        with_resources(lambda made: resync_customers(made, customer=customer, organization=organization))
    )
    typer.echo(f"{count} customers will be read again")
    raise typer.Exit(0 if count or everybody else 1)


@billing.command("reconcile")
def reconcile_billing(
    settle: Annotated[float, typer.Option(help="Seconds after which a change is no longer on its way.")] = 60,
) -> None:
    """Compare everything with Stripe, both ways; what differs is read again.

    Exit 1 when anything did, 2 when Stripe could not be asked.
    """
    from service.features.billing.flows.drift import KINDS
    from service.features.billing.flows.reconcile import EXAMPLES, compare_objects

    async def compare(resources: Resources) -> dict[str, list[str]]:
        return await compare_objects(resources, resources.as_maintenance, full=True, settle=settle)

    insist_on(get_settings(), "database_maintenance_url")
    found = asyncio.run(with_resources(compare, maintenance=True))
    for kind in KINDS:
        ids = found.get(kind, [])
        typer.echo(f"{'FAIL' if ids else 'ok  '} {kind}: {len(ids)} {' '.join(ids[:EXAMPLES])}".rstrip())
    raise typer.Exit(1 if found else 0)


@billing.command("diff")
def diff_billing(customer: StripeCustomer = "") -> None:
    """Print what differs between our copy and Stripe, of one customer or of all.

    Exit 1 when anything does, 2 when Stripe could not be asked.
    """
    from service.features.billing.flows.diff import diff
    from service.features.billing.flows.resync import batches
    from service.integrations.stripe.pace import Urgency

    async def compare(resources: Resources) -> int:
        seen = count = 0
        async for some in batches(resources, customer=customer):
            seen += len(some)
            for one in some:
                for found in await diff(resources, one, Urgency.SWEEP):
                    count += 1
                    where = f"{one.stripe_customer_id} {found.object} {found.column}"
                    typer.echo(f"{where}: {found.ours} here, {found.stripes} at Stripe")
        if customer and not seen:  # silence would say that all is well with a mistyped id
            raise SystemExit(f"{customer} is the customer of no organization here; check the id and the mode.")
        if not count:
            typer.echo(f"no difference in {seen} customers")
        return count

    raise typer.Exit(1 if asyncio.run(with_resources(compare)) else 0)
