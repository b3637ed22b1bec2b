"""What goes with a person's copy besides their rows: what for, how long, who receives it (GDPR Art. 15(1)), and when
somebody of our staff looked at their account and why (CJEU C-579/21): the colleague is not named, their role is."""

from __future__ import annotations

from collections.abc import AsyncIterator

from service.core.context import ActorKind
from service.core.database import Base, Database
from service.core.settings import Settings
from service.features.privacy.flows.progress import Progress
from service.guardrails.audit import AuditRow
from service.guardrails.data_map import PROCESSORS, record
from service.guardrails.data_map.processors import Processor
from service.guardrails.data_map.walk import Row, as_json, batches
from service.guardrails.personal_data import CATEGORIES, PURPOSES
from service.guardrails.subjects import Person

LOOK = "staff.read_personal"
STAFF_FIELDS = ("at", "who", "what", "outcome", "why")
TEXT = """Who answers for your data
{controller}. Questions, and any wish about your data: {contact}

What we hold, what for, on which basis, and for how long
{held}

Who receives some of it
{recipients}

Your rights
You can have wrong data corrected, all of it erased, its processing restricted, and you can object to it: on the page
"Privacy" of your account, or write to us. You can complain to the supervisory authority where you live. What we hold
we have from you, from your browser, from who invited you, and from the provider you log in with.
"""


def recipients(settings: Settings) -> list[Processor]:
    """Those that this installation uses."""
    carriers = {place.mail_through for place in settings.places.values()}
    return [one for one in PROCESSORS.values() if one.name not in ("smtp", "sendgrid") or one.name in carriers]


def information(settings: Settings) -> str:
    held = (
        f"- {one.meaning}. {one.purpose}. Basis: {one.basis}. Kept: {'; '.join(one.retention)}."
        for one in record.notice(Base.metadata)
    )
    firms = (
        f"- {one.title}. For: {PURPOSES[one.purpose].sentence}. May get: {_meanings(one)}. Where: {one.region}."
        f" Lawful transfer: {one.transfer}."
        for one in recipients(settings)
    )
    return TEXT.format(
        controller=settings.controller_name,
        contact=settings.privacy_contact,
        held="\n".join(held),
        recipients="\n".join(firms),
    )


def _meanings(one: Processor) -> str:
    personal = [CATEGORIES[name].meaning for name in one.receives if CATEGORIES[name].is_personal]
    return "; ".join(personal) or "nothing about persons"


async def staff_rows(maintenance: Database, person: Person, progress: Progress) -> AsyncIterator[list[bytes]]:
    """Looks at this account, and what staff did to it. Words are told for looks alone: they say what for."""
    table = Base.metadata.tables[AuditRow.__tablename__]
    wanted = [table.columns[name] for name in ("at", "action", "outcome", "reason", "facts")]
    at_them, by_staff = table.c.object_id == person.id, table.c.actor_kind == ActorKind.STAFF.value
    where = at_them & by_staff & (table.c.actor_id != person.id)
    async for rows in batches(maintenance, table, wanted, where):
        yield [as_json(_told(row), STAFF_FIELDS) for row in rows]
        await progress.tick(len(rows))


def _told(row: Row) -> Row:
    emergency = " with emergency rights" if row["facts"].get("break_glass") else ""
    why = row["reason"] if row["action"] == LOOK else ""
    return {
        "at": row["at"],
        "who": f"a member of our staff{emergency}",
        "what": row["action"],
        "outcome": row["outcome"],
        "why": why,
    }
