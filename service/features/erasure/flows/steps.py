"""What is done in each place, in order; each can be done twice, because a crash may come between it and its note.

The tables are last, because only they say who it was. The ledger is before them: once a backup could bring the person
back, something must know that they are to go again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.database import Base
from service.features.billing.flows.forget import forget_person
from service.features.erasure.flows import ledger
from service.guardrails import sessions
from service.guardrails.erasure import erase_rows, forget_mentions, left_of
from service.guardrails.mailing import Reach, hash_of
from service.guardrails.subjects import Person
from service.guardrails.uploads.kept import PLACES
from service.integrations.mail import Mailers
from service.integrations.storage import Storage
from service.web.mail import compose_for, hand_over, letter

letter("erasure/mail/begun", Reach.MUST)


@dataclass(frozen=True, slots=True)
class Case:
    """One request while it is worked on; `emails`: the present one first, then all former ones; empty when nobody
    knows one of theirs any more."""

    request_id: UUID
    user_id: UUID
    emails: tuple[str, ...]
    began_at: datetime
    again: bool
    """After a restore: the person was told the first time."""

    @property
    def person(self) -> Person:
        return Person(self.user_id, self.emails)


Evidence = dict[str, Any]
Step = Callable[[Resources, Case], Awaitable[Evidence]]


class Left(Exception):
    """Something of the person is still there although its place was dealt with: a mistake of ours."""


async def close(resources: Resources, case: Case) -> Evidence:
    """The account was closed when the request began, and its epoch ended every session; Redis is tidied here."""
    return {"sessions": await sessions.end_all(resources, case.user_id)}


async def farewell(resources: Resources, case: Case) -> Evidence:
    if case.again:
        return {"mails": 0}
    for email in case.emails[:1]:
        async with resources.database.unit_of_work(tenant=None) as work:
            ctx = Context(work, resources, SYSTEM, Caller(f"erasure {case.request_id}"))
            ready = await compose_for(ctx, email, "erasure/mail/begun", f"erasure.{case.request_id}")
        await hand_over(resources, ready)
    return {"mails": len(case.emails[:1])}


async def files(resources: Resources, case: Case) -> Evidence:
    """The person's own: their exports, one that is being made too. What they uploaded into an organization's workspace
    is the organization's."""
    keys = list[str]()
    async with resources.as_maintenance.unit_of_work() as work:
        for place in PLACES.values():
            if place.stop_person:
                await work.raw.execute(place.stop_person, case.user_id)
            if place.of_person:
                keys += [row[0] for row in await work.raw.fetch(place.of_person, case.user_id)]
    for key in keys:
        await resources.get(Storage).delete(key)
    return {"objects": len(keys)}


async def stripe(resources: Resources, case: Case) -> Evidence:
    return await forget_person(resources, case.user_id, case.emails, f"ballast:erasure:{case.request_id}")


async def mail(resources: Resources, case: Case) -> Evidence:
    mailers = resources.get(Mailers).all()
    return {"answers": [await mailer.erase(email) for email in case.emails for mailer in mailers]}


async def note(resources: Resources, case: Case) -> Evidence:
    if not case.again:  # else it is there, and knows more: perhaps nobody knows an address any more
        hashed = hash_of(case.emails[0]).hex() if case.emails else ""
        await ledger.write(resources, ledger.Entry(case.request_id, case.user_id, hashed, case.began_at))
    return {"entry": str(case.request_id)}


async def tables(resources: Resources, case: Case) -> Evidence:
    """Copies of messages that name them, then all the rest in one transaction; the walk must find nothing again."""
    copies = await forget_mentions(resources.as_maintenance, case.person, Base.metadata)
    async with resources.as_maintenance.unit_of_work() as work:
        done = await erase_rows(work, case.person, Base.metadata)
        if left := await left_of(work, case.person, Base.metadata):
            raise Left(f"rows are left in {', '.join(left)}")
    return {"rows": dict(sorted((copies + done).items()))}


STEPS: dict[str, Step] = {
    "close": close,
    "farewell": farewell,
    "files": files,
    "stripe": stripe,
    "mail": mail,
    "ledger": note,
    "tables": tables,
}
