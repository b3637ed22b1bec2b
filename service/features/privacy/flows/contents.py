"""What belongs into a person's copy: their rows by table as the data map finds them, without anybody else's data.

What people wrote into their organization's workspace is the organization's, and in its copy: a person's has who they
are, how they log in, where they belong, what they were told, and what they did.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Column, select

from service.core.context import Resources
from service.core.crypto import BadSignature
from service.core.database import Base, Database
from service.features.accounts.models import User
from service.features.notifications.models import KINDS, Notification
from service.features.privacy.flows.archive import Entry, whole
from service.features.privacy.flows.information import information, staff_rows
from service.features.privacy.flows.progress import Progress
from service.guardrails import sessions
from service.guardrails.audit import AuditRow
from service.guardrails.data_map.record import retention_text
from service.guardrails.data_map.walk import as_json, batches
from service.guardrails.former_addresses import given_up
from service.guardrails.personal_data import CATEGORIES, PURPOSES, Protection, privacy_of, protection_of
from service.guardrails.sealed import row_names, unseal
from service.guardrails.subjects import Holding, Person, rows_of

ADDRESS = re.compile(r"[^\s@<>\"',;:()]+@[^\s@<>\"',;:()]+\.\w+")
SOMEBODY = "[somebody else]"
OF_THE_LOG = frozenset(
    {"id", "at", "organization_id", "actor_id", "on_behalf_of", "action", "object_id", "outcome", "address_prefix"}
)
"""What the person did, when and whence. Reasons and facts were typed about others, or name them."""
README = """This is a copy of the data about you in {product}, made on {day}.

Each .json file holds the rows of one table. schema.json says of every field what it is, why we have it and for how
long. Other people's names, addresses and numbers are left out: "{somebody}" stands for them.

information.txt says what we have all this for, on which basis and for how long, who receives some of it, and which
rights you have. staff.json says when somebody of our staff looked at your account, or did something to it, in which
role, and why they looked; when they worked in your account for you is in support_visits.json. Looks at lists in which
you are one of many are not in it one by one.

What you and your colleagues wrote into an organization (indicators, readings, files) is the organization's. Its owners
can copy all of it on their page "Organization".

Left out, too: what would open a door (hashes of passwords, secrets of codes), and copies of the same data in backups.
Questions: {contact}
"""


async def person_of(maintenance: Database, user_id: UUID) -> Person | None:
    """An address that was never confirmed may be somebody else's: what is found by it is not theirs. What came to a
    former one while it was theirs, is."""
    async with maintenance.unit_of_work(read_only=True) as work:
        wanted = select(User.email, User.email_verified_at).where(User.id == user_id)
        row = (await work.session.execute(wanted, execution_options={"include_deleted": True})).one_or_none()
        until = (await given_up(work, [user_id])).get(user_id, {})
    if row is None:
        return None
    present = (row.email,) if row.email_verified_at else ()
    older = {email: at for email, at in until.items() if email not in present}
    return Person(user_id, (*present, *older), older)


def columns_of(holding: Holding) -> list[Column[Any]]:
    """Not what the organization wrote, even in a row about the person."""
    wanted = [column for column in holding.exported if protection_of(column) is not Protection.CONTENT]
    if holding.table.name == AuditRow.__tablename__:
        return [column for column in wanted if column.name in OF_THE_LOG]
    return wanted


def holdings_of(person: Person) -> list[Holding]:
    return [held for held in rows_of(person, Base.metadata) if not held.only_candidates]


async def personal_entries(
    resources: Resources, maintenance: Database, person: Person, progress: Progress
) -> AsyncIterator[Entry]:
    held = holdings_of(person)
    progress.parts = len(held) + 1
    about = {"product": "Ballast", "day": f"{progress.asked_at:%d %B %Y}", "somebody": SOMEBODY}
    yield Entry("README.txt", whole(README.format(contact=resources.settings.privacy_contact, **about)))
    yield Entry(
        "schema.json", whole(orjson.dumps(schema_of(held), option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))
    )
    yield Entry("information.txt", whole(information(resources.settings)))
    yield Entry("staff.json", _listed(staff_rows(maintenance, person, progress)))
    for each in held:
        yield Entry(f"{each.table.name}.json", _listed(_rows(maintenance, person, each, progress)))
        progress.done += 1
    devices = await sessions.devices(resources, person.id)
    found = [
        {"device": one.label, "network": one.region, "since": one.created_at, "seen": one.seen_at} for one in devices
    ]
    yield Entry("sessions.json", whole(orjson.dumps(found)))
    progress.done += 1


def schema_of(held: list[Holding]) -> dict[str, Any]:
    return {
        each.table.name: {
            "kept": retention_text(each.table),
            "fields": {column.name: _meaning(column) for column in columns_of(each)},
        }
        for each in held
    }


def _meaning(column: Column[Any]) -> dict[str, str]:
    privacy = privacy_of(column)
    assert privacy is not None  # noqa: S101 - an unclassified column is never exported
    return {
        "is": CATEGORIES[privacy.category].meaning,
        "category": privacy.key,
        "purpose": PURPOSES[privacy.purpose].sentence,
        "basis": privacy.basis.value,
    }


async def _rows(maintenance: Database, person: Person, held: Holding, progress: Progress) -> AsyncIterator[list[bytes]]:
    columns = columns_of(held)
    names = [column.name for column in columns]
    async for rows in batches(maintenance, held.table, columns, held.where):
        yield [as_json(opened(held, masked(held, row, person)), names) for row in rows]
        await progress.tick(len(rows))


async def _listed(batches_of_lines: AsyncIterable[list[bytes]]) -> AsyncIterator[bytes]:
    first = True
    yield b"["
    async for lines in batches_of_lines:
        yield (b"\n" if first else b",\n") + b",\n".join(lines)
        first = False
    yield b"\n]\n"


def masked(held: Holding, row: Mapping[str, Any], person: Person) -> dict[str, Any]:
    """The row without other people: their numbers, the news about them, their addresses in any text."""
    shown = {name: _without_addresses(value, person) for name, value in row.items()}
    for column in held.table.columns:
        privacy = privacy_of(column)
        points = privacy is not None and privacy.category == "subject" and shown.get(column.name) is not None
        if points and shown[column.name] != person.id:
            shown[column.name] = SOMEBODY
    if held.table.name == AuditRow.__tablename__:
        if shown["on_behalf_of"] not in (None, person.id):
            shown["on_behalf_of"] = SOMEBODY
        if shown["object_id"] != person.id:
            shown["object_id"] = None  # a person's number, or a thing's: the log does not tell which
    if held.table.name == Notification.__tablename__ and (kind := KINDS.get(shown["kind"])) and kind.about_others:
        shown["text"] = f"{kind.title} {SOMEBODY}"
    return shown


def opened(held: Holding, row: dict[str, Any]) -> dict[str, Any]:
    """What is sealed in the table, as words: it is theirs to read. Left out where its key is lost."""
    for column in held.table.columns:
        if column.info.get("sealed") and (value := row.get(column.name)) is not None:
            try:
                row[column.name] = unseal(column, value, *(row[name] for name in row_names(column))).decode()
            except BadSignature:
                row[column.name] = None
    return row


def _without_addresses(value: Any, person: Person) -> Any:
    if isinstance(value, str):
        return ADDRESS.sub(lambda found: found[0] if found[0].lower() in person.emails else SOMEBODY, value)
    if isinstance(value, dict):
        return {key: _without_addresses(inner, person) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_addresses(inner, person) for inner in value]
    return value
