"""What staff type into a list is heeded: of two organizations, the list and its CSV show the one that was asked for."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import StringIO
from urllib.parse import urlencode
from uuid import UUID

from fastapi import FastAPI

from service.core.ids import new_id
from service.guardrails.api_keys import SHOWN
from service.guardrails.permissions import Role
from service.web.staff import Listing
from tests.architecture.planted import another_member, clean_file, ended_import, paused_source, webhook_endpoint
from tests.architecture.test_statements import billing_invoice
from tests.support.client import Client
from tests.support.factories import Factory, Person

WHOSE = "organization_id"
LISTINGS = 11
"""How many lists could be asked for one organization when this was set: fewer means that the scan is blind."""
Row = dict[str, str]
"""What its columns show of a planted row, and nobody else's has; by the filter that finds it, where there is one."""
Plant = Callable[[Factory, Person, UUID], Awaitable[Row]]


async def member(factory: Factory, _: Person, organization: UUID) -> Row:
    return {"id": await another_member(factory, organization, None)}


async def subscription(factory: Factory, _: Person, organization: UUID) -> Row:
    await billing_invoice(factory, organization)
    sql = "SELECT stripe_id FROM billing_subscriptions WHERE organization_id = $1"
    return {"stripe_id": await factory.superuser.fetchval(sql, organization)}


async def failing_endpoint(factory: Factory, owner: Person, organization: UUID) -> Row:
    host = f"{new_id().hex}.invalid"
    now = await factory.superuser.fetchval("SELECT now()")
    await webhook_endpoint(factory, organization, owner, url=f"https://{host}/", failing_since=now, failures=3)
    return {"host": host}


async def endpoint(factory: Factory, owner: Person, organization: UUID) -> Row:
    return {"id": await webhook_endpoint(factory, organization, owner)}


async def key(factory: Factory, _: Person, organization: UUID) -> Row:
    return {"prefix": (await factory.key(organization))[:SHOWN]}


async def source(factory: Factory, _: Person, organization: UUID) -> Row:
    return {"id": await paused_source(factory, organization, None)}


async def file(factory: Factory, _: Person, organization: UUID) -> Row:
    return {"file_id": await clean_file(factory, organization, None)}


async def finding(factory: Factory, _: Person, organization: UUID) -> Row:
    await factory.superuser.execute(
        "INSERT INTO file_findings (id, organization_id, file_id, signature, found_at) VALUES ($1, $2, $3, 'x', now())",
        new_id(), organization, of := new_id(),
    )  # fmt: skip
    return {"file_id": str(of)}


async def event(factory: Factory, owner: Person, organization: UUID) -> Row:
    """Through the product: a row of the log that was planted by hand would look like tampering."""
    async with await factory.client(owner) as client:
        made = await client.submit("/indicators/new", name=f"Noted {new_id().hex[-6:]}")
        assert made.status_code == 303, made.text
    sql = "SELECT id FROM indicators WHERE organization_id = $1"
    return {"object_id": str(await factory.superuser.fetchval(sql, organization)), "actor_id": str(owner.id)}


async def flag(factory: Factory, _: Person, organization: UUID) -> Row:
    """Its columns show nothing of its own but whose it is."""
    await factory.superuser.execute(
        "INSERT INTO organization_flags VALUES ($1, 'tile_range', true, now())", organization
    )
    return {}


async def table(factory: Factory, _: Person, organization: UUID) -> Row:
    return {"id": await ended_import(factory, organization, None)}


PLANTS: dict[str, Plant] = {
    "/staff/api-keys": key,
    "/staff/events": event,
    "/staff/files": file,
    "/staff/flags": flag,
    "/staff/imports": table,
    "/staff/memberships": member,
    "/staff/quarantine": finding,
    "/staff/sources": source,
    "/staff/subscriptions": subscription,
    "/staff/webhook-endpoints": endpoint,
    "/staff/webhooks": failing_endpoint,
}
"""For every list that can be asked for one organization, what plants a row that it shows."""


@dataclass(frozen=True)
class Planted:
    """A row of each list, all of one organization."""

    organization: UUID
    rows: dict[str, Row]


async def planted(factory: Factory) -> Planted:
    owner = await factory.person(Role.OWNER)
    assert owner.organization_id is not None
    await factory.plan(owner.organization_id)
    rows = {path: await plant(factory, owner, owner.organization_id) for path, plant in PLANTS.items()}
    return Planted(owner.organization_id, rows)


@asynccontextmanager
async def reader_of(listing: Listing, factory: Factory, colleague: Person) -> AsyncIterator[Client]:
    """From an address of its own: there are more lists than one may take away in an hour."""
    async with await factory.client(colleague, "password", "totp") as staff:
        if listing.is_personal:
            said = {"next": listing.path, "reason": "Ticket 4711: they asked what we have"}
            await staff.submit("/staff/reasons", page=f"/staff/reasons?next={listing.path}", **said)
        yield staff


def shown_on(page: str, one: Planted, row: Row) -> bool:
    """A row leads to its organization; that one's id stands in the filter, too."""
    shown = [f'"/staff/organizations/{one.organization}"' in page, *(value in page for value in row.values())]
    return all(shown)


async def wrong(staff: Client, listing: Listing, mine: Planted, theirs: Planted, **asked: object) -> list[str]:
    """What is amiss with the page and with the CSV, which are to show the row of the first and no other's."""
    query, row, other = urlencode(asked), mine.rows[listing.path], theirs.rows[listing.path]
    page, taken = await staff.page(f"{listing.path}?{query}"), await staff.get(f"{listing.path}/csv?{query}")
    assert taken.headers["content-type"].startswith("text/csv"), f"{listing.path}: {taken.status_code}"
    lines = list(csv.DictReader(StringIO(taken.text.removeprefix("\ufeff"))))
    [whose] = [column.title for column in listing.columns if column.name == WHOSE]
    found = []
    if not shown_on(page, mine, row):
        found.append("the page lacks the row")
    if f"/staff/organizations/{theirs.organization}" in page or any(value in page for value in other.values()):
        found.append("the page shows another organization's")
    if not any(set(row.values()) <= set(line.values()) for line in lines):
        found.append("the CSV lacks the row")
    if {line[whose] for line in lines} - {str(mine.organization)}:
        found.append("the CSV shows another organization's")
    return [f"{listing.path}?{query}: {each}" for each in found]


async def test_each_list_shows_the_organization_that_staff_asked_for(app: FastAPI, factory: Factory) -> None:
    listings: list[Listing] = [one for one in app.state.panel.listings if WHOSE in one.wanted.model_fields]
    assert len(listings) >= LISTINGS, f"the scan saw only {len(listings)} listings"
    assert {listing.path for listing in listings} == set(PLANTS), "plant a row for the list that is new, above"
    colleague, mine, theirs = await factory.person(staff=True), await planted(factory), await planted(factory)
    found, searched = [], set()
    for listing in listings:
        row = mine.rows[listing.path]
        async with reader_of(listing, factory, colleague) as staff:
            found += await wrong(staff, listing, mine, theirs, organization_id=mine.organization)
            for name in set(listing.wanted.model_fields) - {WHOSE}:
                searched.add(f"{listing.path}?{name}")
                found += await wrong(staff, listing, mine, theirs, **{name: row[name]})
                # Both filters hold at once.
                both = urlencode({name: row[name], WHOSE: theirs.organization})
                if shown_on(await staff.page(f"{listing.path}?{both}"), mine, {}):
                    found.append(f"{listing.path}?{both}: the page shows another organization's")
    assert not found, f"{found}: let the listing's query heed each field of `wanted`"
    assert "/staff/subscriptions?stripe_id" in searched
    assert len(searched) >= 5, f"only {sorted(searched)} were searched by more than the organization"
