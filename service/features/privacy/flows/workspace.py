"""What belongs into an organization's copy: every table of its own as JSON lines, its readings as CSV, its files.

Enough to go on elsewhere (EU Data Act, Art. 25 and 30): nothing is left out but what opens a door to somebody else's
system, what is computed from the rest, and what belongs to one person alone (their news).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from uuid import UUID

from sqlalchemy import ColumnElement, Table, func, select

from service.core.context import Resources
from service.core.database import Base, Database
from service.features.accounts.models import User
from service.features.files.models import File, FileState
from service.features.organizations.models import Membership
from service.features.privacy.flows.archive import Entry, whole
from service.features.privacy.flows.progress import Progress
from service.guardrails.data_map.walk import as_json, batches
from service.guardrails.personal_data import Erasure, Protection, privacy_of, protection_of
from service.guardrails.soft_delete import EVERYTHING
from service.guardrails.subjects import By, subject_of
from service.guardrails.tenancy import TenantScoped
from service.integrations.storage import NotStored, Storage
from service.web.sheet import harmless

READINGS = "readings"
COMPUTED = {"indicator_words", "reading_hours", "import_rows"}
README = """This is a copy of everything that belongs to your organization in {product}, made on {day}.

Each .jsonl file holds the rows of one table, one JSON object a line; readings.csv all readings; files/ what was
uploaded, each in a folder named by its id (files.jsonl says which is which, also what is in the bin). people.jsonl says
who belongs to the organization. Billing is in the files that begin with billing_, as far as we know it; invoices lie at
the addresses in billing_invoices.jsonl.

Left out: keys and secrets of other systems (enter them anew where you go), what is computed from the rest
({computed}), and what was told to single people. {missing}

Questions: {contact}
"""


def tenant_tables() -> list[Table]:
    """Every table that holds rows of organizations, but those that are left out for the reasons above."""
    scoped = {mapper.local_table for mapper in Base.registry.mappers if issubclass(mapper.class_, TenantScoped)}
    tied = {key.parent for table in Base.metadata.sorted_tables for key in table.foreign_key_constraints
            if key.referred_table.name == "organizations" and key.column_keys == ["organization_id"]}  # fmt: skip
    return [
        table
        for table in Base.metadata.sorted_tables
        if (table in scoped | tied or table.name == "organizations")
        and table.name not in COMPUTED | {READINGS}
        and not _of_one_person(table)
    ]


def _of_one_person(table: Table) -> bool:
    subject = subject_of(table)
    personal = any(protection_of(column) is Protection.PERSONAL for column in table.columns)
    if subject is None or subject.by is not By.ID or not personal:
        return False
    # What outlives the person is the organization's: whom of its people our staff visited.
    return not any((held := privacy_of(column)) and held.erasure is Erasure.KEEP for column in table.columns)


async def workspace_entries(resources: Resources, organization_id: UUID, progress: Progress) -> AsyncIterator[Entry]:
    database, tables = resources.database, tenant_tables()
    async with database.unit_of_work(tenant=organization_id, read_only=True) as work:
        stored = select(func.count()).select_from(File).where(File.state == FileState.CLEAN)
        files = await work.session.scalar(stored, execution_options=EVERYTHING) or 0
    progress.parts = len(tables) + files + 2
    for table in tables:
        yield Entry(f"{table.name}.jsonl", _lines(database, table, organization_id, progress))
        progress.done += 1
    yield Entry("people.jsonl", _people(database, organization_id))
    yield Entry("readings.csv", _readings(database, organization_id, progress))
    progress.done += 2
    async for entry in _files(resources, organization_id, progress):
        yield entry
        progress.done += 1
    missing = f"Missing, because the store did not have them: {'; '.join(progress.missing)}" if progress.missing else ""
    about = {"product": "Ballast", "day": f"{progress.asked_at:%d %B %Y}", "computed": ", ".join(sorted(COMPUTED))}
    text = README.format(missing=missing, contact=resources.settings.privacy_contact, **about)
    yield Entry("README.txt", whole(text))


def _theirs(table: Table, organization_id: UUID) -> ColumnElement[bool]:
    return (table.c.id if table.name == "organizations" else table.c.organization_id) == organization_id


async def _lines(database: Database, table: Table, organization_id: UUID, progress: Progress) -> AsyncIterator[bytes]:
    columns = [column for column in table.columns if protection_of(column) is not Protection.SECRET]
    names = [column.name for column in columns]
    found = batches(database, table, columns, _theirs(table, organization_id), tenant=organization_id)
    async for rows in found:
        yield b"".join(as_json(row, names) + b"\n" for row in rows)
        await progress.tick(len(rows))


async def _people(database: Database, organization_id: UUID) -> AsyncIterator[bytes]:
    """As the members' page shows them. All are read before the first leaves: how fast the archive goes out must not
    say how long a transaction is open."""
    wanted = select(User.id, User.name, User.email, Membership.role).join(Membership, Membership.user_id == User.id)
    async with database.unit_of_work(tenant=organization_id, read_only=True) as work:
        rows = (await work.session.execute(wanted.order_by(Membership.id))).mappings().all()
    for row in rows:
        yield as_json(dict(row), ("id", "name", "email", "role")) + b"\n"


async def _readings(database: Database, organization_id: UUID, progress: Progress) -> AsyncIterator[bytes]:
    readings, indicators = Base.metadata.tables[READINGS], Base.metadata.tables["indicators"]
    names: dict[UUID, str] = {}
    columns = [indicators.c.id, indicators.c.name]
    where = _theirs(indicators, organization_id)
    async for rows in batches(database, indicators, columns, where, tenant=organization_id):
        names |= {row["id"]: harmless(row["name"]).replace('"', '""') for row in rows}
    yield b"indicator_id,indicator,time,value\n"
    columns = [readings.c.indicator_id, readings.c.at, readings.c.value]
    where = _theirs(readings, organization_id)
    async for rows in batches(database, readings, columns, where, tenant=organization_id, batch=10_000):
        yield "".join(
            f'{row["indicator_id"]},"{names.get(row["indicator_id"], "")}",{row["at"].isoformat()},{row["value"]!r}\n'
            for row in rows
        ).encode()
        await progress.tick(len(rows))


async def _files(resources: Resources, organization_id: UUID, progress: Progress) -> AsyncIterator[Entry]:
    """Also those in the bin. One that the store has lost is named, in the archive and on the page."""
    files, storage = Base.metadata.tables["files"], resources.get(Storage)
    where = _theirs(files, organization_id) & (files.c.state == FileState.CLEAN) & (files.c.key != "")
    columns = [files.c.id, files.c.name, files.c.key, files.c.size]
    async for rows in batches(resources.database, files, columns, where, tenant=organization_id, batch=100):
        for row in rows:
            try:
                size = await storage.size(row["key"])
            except NotStored:
                progress.missing.append(row["name"])
                continue
            name = re.sub(r"[/\\\x00]", "_", row["name"])
            yield Entry(f"files/{row['id']}/{name}", _bytes(storage, row["key"], size, progress), packed=False)


async def _bytes(storage: Storage, key: str, size: int, progress: Progress) -> AsyncIterator[bytes]:
    async for part in storage.get(key, 0, size):
        yield part
        await progress.tick()
