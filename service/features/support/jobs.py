"""After a visit: its record is closed whatever became of the visitor, and the person is told."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import bindparam, select

from service.core.context import Context
from service.core.statements import Prepared
from service.features.accounts.models import User
from service.features.organizations.models import Organization
from service.features.support import actions
from service.features.support.models import SupportVisit
from service.guardrails import jobs
from service.guardrails.impersonation import LONGEST
from service.guardrails.jobs import Event, job, on
from service.guardrails.mailing import Reach
from service.web.mail import PATIENT, deliver, letter

letter(
    "support/mail/visited",
    Reach.MUST,
    organization="Northwind Traders",
    why="The import of Monday shows no rows, as you wrote to us.",
    began="23 November 2026, 15:04 UTC",
    ended="23 November 2026, 15:12 UTC",
    link="https://app.example/organization/support",
)
ENDED = Prepared(
    select(
        SupportVisit.id,
        SupportVisit.reason,
        SupportVisit.began_at,
        SupportVisit.ended_at,
        User.email,
        Organization.name.label("organization"),
    )
    .join(User, User.id == SupportVisit.person_id)
    .join(Organization, Organization.id == SupportVisit.organization_id)
    .where(SupportVisit.id == bindparam("id"))
)


@on(actions.begin_visit)
async def see_to_its_end(ctx: Context, event: Event) -> None:
    await jobs.enqueue(ctx, close_when_over, delay=LONGEST, visit_id=UUID(event.facts["visit"]))


@job()
async def close_when_over(ctx: Context, visit_id: UUID) -> None:
    await actions.expire_visit(ctx, visit_id)


@on(actions.stop_visit)
async def tell_of_stopped(ctx: Context, event: Event) -> None:
    await _tell(ctx, event)


@on(actions.come_back)
async def tell_of_returned(ctx: Context, event: Event) -> None:
    await _tell(ctx, event)


@on(actions.expire_visit)
async def tell_of_expired(ctx: Context, event: Event) -> None:
    await _tell(ctx, event)


async def _tell(ctx: Context, event: Event) -> None:
    if visit := event.facts.get("visit"):
        await jobs.enqueue(ctx, mail_visited, visit_id=UUID(visit))


@job(retry=PATIENT)
async def mail_visited(ctx: Context, visit_id: UUID) -> None:
    """To the person whose account it was, when the visitor has left."""
    row = await ctx.fetch_one(ENDED, id=visit_id)
    if row is None:
        return
    await deliver(
        ctx,
        row["email"],
        "support/mail/visited",
        f"visited.{row['id']}",
        organization=row["organization"],
        why=row["reason"],
        began=f"{row['began_at']:%-d %B %Y, %H:%M} UTC",
        ended=f"{row['ended_at']:%-d %B %Y, %H:%M} UTC",
        link=f"{ctx.settings.base_url.rstrip('/')}/organization/support",
    )
