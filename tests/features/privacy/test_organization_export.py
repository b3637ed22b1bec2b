"""An organization's copy holds all of it, its files included, and nothing of anybody else."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from service.core.database import Base
from service.core.ids import new_id
from service.core.regions import in_region
from service.features.privacy.flows.workspace import COMPUTED, READINGS, tenant_tables
from service.guardrails.data_map.walk import batches
from service.guardrails.permissions import Role
from service.guardrails.personal_data import Protection, protection_of
from service.guardrails.tenancy import TenantScoped
from service.integrations.storage import Storage
from tests.features.privacy.conftest import Desk, opened

WHERE = "/organization/export"
START = datetime(2026, 3, 1, tzinfo=UTC)


async def test_the_organizations_copy_holds_all_of_it_and_nothing_of_others(desk: Desk) -> None:
    here, elsewhere = desk.organization, await desk.factory.organization("Canary Elsewhere")
    colleague = await desk.factory.person(Role.MEMBER, here)
    indicator, foreign = await desk.factory.indicator(here, "=Visitors"), await desk.factory.indicator(elsewhere, "Foe")
    for owner, one in ((here, indicator), (elsewhere, foreign)):
        await desk.db.executemany(
            "INSERT INTO readings (organization_id, indicator_id, at, value) VALUES ($1, $2, $3, $4)",
            [(owner, one, START + timedelta(hours=n), n + 0.5) for n in range(3)],
        )
    deleted = await desk.factory.indicator(here, "In the bin", deleted_at=START, deletion_id=new_id())
    source = await desk.factory.source(here, sealed_key=b"canary-secret")
    bill = (
        "INSERT INTO billing_customers (id, organization_id, stripe_customer_id, livemode, created_at, sync_version,"
        " dirty_gen, synced_gen, failures) VALUES ($1, $2, $3, false, now(), 0, 0, 0, 0)"
    )
    await desk.db.execute(bill, new_id(), here, f"cus_{here.hex}")
    await desk.db.execute(bill, new_id(), elsewhere, f"cus_{elsewhere.hex}")
    kept, name = await stored(desk, here, b"minutes of the meeting")
    lost = await desk.factory.file(here, "Lost at sea.txt")
    theirs, _ = await stored(desk, elsewhere, b"canary elsewhere")

    export = await desk.ask(WHERE, WHERE)
    row = await desk.made(export)
    assert row["state"] == "ready"
    archive = await desk.fetch(export)
    found = opened(archive)

    assert {one["id"] for one in found["indicators.jsonl"]} == {str(indicator), str(deleted)}, "the bin included"
    lines = list(csv.DictReader(io.StringIO(found["readings.csv"].decode())))
    assert [(line["indicator_id"], float(line["value"])) for line in lines] == [
        (str(indicator), n + 0.5) for n in range(3)
    ]
    assert lines[0]["indicator"] == "'=Visitors", "a spreadsheet runs nothing"
    assert {one["email"] for one in found["people.jsonl"]} == {desk.owner.email, colleague.email}
    assert [one["stripe_customer_id"] for one in found["billing_customers.jsonl"]] == [f"cus_{here.hex}"]
    assert [one["id"] for one in found["sources.jsonl"]] == [str(source)]
    assert found[f"files/{kept}/{name}"] == b"minutes of the meeting"
    assert {one["id"] for one in found["files.jsonl"]} == {str(kept), str(lost)}
    assert found["organizations.jsonl"][0]["id"] == str(here)

    assert row["missing"] == ["Lost at sea.txt"]
    assert b"the store did not have them: Lost at sea.txt" in found["README.txt"]
    assert "Lost at sea.txt" in await desk.browser.page(WHERE)

    everything = b"".join(archive.read(each) for each in archive.namelist()) + json.dumps(archive.namelist()).encode()
    for foe in (elsewhere, foreign, theirs, f"cus_{elsewhere.hex}", "canary-secret", "canary elsewhere"):
        assert str(foe).encode() not in everything
    assert "sealed_key" not in found["sources.jsonl"][0], "bytes would be there in base64"
    expected = {f"{table.name}.jsonl" for table in tenant_tables()}
    assert len(expected) >= 20
    assert expected <= set(found)


async def test_batches_bring_every_row_once(desk: Desk) -> None:
    planted = {await desk.factory.indicator(desk.organization) for _ in range(5)}
    table = Base.metadata.tables["indicators"]
    where, columns = table.c.organization_id == desk.organization, [table.c.id]
    found = batches(desk.resources.database, table, columns, where, tenant=desk.organization, batch=2)
    read = [[row["id"] for row in rows] async for rows in found]
    assert [len(rows) for rows in read] == [2, 2, 1]
    assert {one for rows in read for one in rows} == planted


async def test_only_owners_copy_the_organization_and_only_as_long_as_they_are(desk: Desk) -> None:
    admin = await desk.factory.person(Role.ADMIN, desk.organization)
    async with await desk.factory.client(admin) as browser:
        assert (await browser.get(WHERE)).status_code == 403
        assert (await browser.post(WHERE, csrf=browser.csrf)).status_code == 403
    export = await desk.ask(WHERE, WHERE)
    assert (await desk.made(export))["state"] == "ready"
    assert (await desk.browser.get(f"/downloads/exports/{export}")).status_code == 200
    await desk.db.execute("UPDATE memberships SET role = 'admin' WHERE user_id = $1", desk.owner.id)
    assert (await desk.browser.get(f"/downloads/exports/{export}")).status_code == 404


async def test_who_owes_us_money_can_still_leave_with_everything(desk: Desk) -> None:
    await desk.factory.plan(desk.organization, full_until=START)
    export = await desk.ask(WHERE, WHERE)
    assert (await desk.made(export))["state"] == "ready"


def test_every_table_of_organizations_is_in_the_copy_or_says_why_not() -> None:
    shown = {table.name for table in tenant_tables()}
    scoped = {str(mapper.local_table) for mapper in Base.registry.mappers if issubclass(mapper.class_, TenantScoped)}
    left_out = scoped - shown
    assert left_out == COMPUTED | {READINGS, "notifications"}, (
        f"{left_out ^ (COMPUTED | {READINGS, 'notifications'})}: computed from others, or told to one person alone; "
        "anything else belongs into the copy"
    )
    secret = [
        str(column)
        for table in tenant_tables()
        for column in table.columns
        if protection_of(column) is Protection.SECRET
    ]
    assert len(secret) >= 5, "what opens a door is left out column by column"


async def stored(desk: Desk, organization: UUID, content: bytes) -> tuple[UUID, str]:
    async def parts() -> AsyncIterator[bytes]:
        yield content

    key = in_region(desk.resources.settings.home_region, f"t/{organization}/{uuid4().hex}")
    await desk.resources.get(Storage).put(key, parts())
    return await desk.factory.file(organization, "Minutes.txt", key=key, size=len(content)), "Minutes.txt"
