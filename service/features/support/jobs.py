"""What ends by the clock, and who is told: after a visit the person, of emergency rights all of staff."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from prometheus_client import Gauge
from sqlalchemy import and_, bindparam, func, not_, select

from service.core import clock, telemetry
from service.core.context import Context, Resources
from service.core.statements import Prepared
from service.features.accounts.models import User
from service.features.organizations.models import Membership, Organization
from service.features.support import actions
from service.features.support.models import SupportVisit
from service.guardrails import jobs
from service.guardrails.break_glass import BreakGlassGrant
from service.guardrails.impersonation import LONGEST
from service.guardrails.jobs import Event, job, on
from service.guardrails.mailing import Reach
from service.guardrails.permissions import Role
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
for _state in ("open", "over"):
    letter(
        f"support/mail/rights_{_state}",
        Reach.MUST,
        who="Sam Staff",
        why="Nobody of staff can log in: the identity provider is away.",
        until="23 November 2026, 16:04 UTC",
        link="https://app.example/staff/break-glass/1",
    )
letter(
    "support/mail/review_recorded",
    Reach.MUST,
    who="Sam Staff",
    reviewer="Robin Staff",
    found="Needed, and nothing else was looked at.",
    link="https://app.example/staff/break-glass/1",
)
break_glass_open = Gauge("break_glass_open", "Emergency rights that are open", registry=telemetry.REGISTRY)
break_glass_unreviewed = Gauge(
    "break_glass_unreviewed", "Emergency rights that are over and wait for a review", registry=telemetry.REGISTRY
)
_IS_OPEN = and_(BreakGlassGrant.closed_at.is_(None), BreakGlassGrant.ends_at > bindparam("now"))
COUNTS = Prepared(
    select(
        func.count().filter(_IS_OPEN).label("open"),
        func.count().filter(not_(_IS_OPEN), BreakGlassGrant.reviewed_at.is_(None)).label("unreviewed"),
    ).select_from(BreakGlassGrant)
)
ENDED = Prepared(
    select(
        SupportVisit.id,
        SupportVisit.reason,
        SupportVisit.began_at,
        SupportVisit.ended_at,
        User.email,
        Organization.name.label("organization"),
        Membership.role,
    )
    .join(User, User.id == SupportVisit.person_id)
    .join(Organization, Organization.id == SupportVisit.organization_id)
    .outerjoin(
        Membership,
        and_(Membership.user_id == SupportVisit.person_id, Membership.organization_id == SupportVisit.organization_id),
    )
    .where(SupportVisit.id == bindparam("id"))
)


@on(actions.begin_visit)
async def see_to_its_end(ctx: Context, event: Event) -> None:
    await jobs.enqueue(ctx, close_when_over, delay=LONGEST, visit_id=UUID(event.facts["visit"]))


@job()
async def close_when_over(ctx: Context, visit_id: UUID) -> None:
    await actions.expire_visit(ctx, visit_id)


@on(actions.stop_visit, actions.come_back, actions.expire_visit)
async def tell_of_the_end(ctx: Context, event: Event) -> None:
    if visit := event.facts.get("visit"):
        await jobs.enqueue(ctx, mail_visited, visit_id=UUID(visit))


@job(retry=PATIENT)
async def mail_visited(ctx: Context, visit_id: UUID) -> None:
    """To the person whose account it was, when the visitor has left."""
    row = await ctx.fetch_one(ENDED, id=visit_id)
    if row is None:
        return
    # The page is the owner's; anybody else would find it shut.
    link = f"{ctx.settings.base_url.rstrip('/')}/organization/support" if row["role"] == Role.OWNER.label else ""
    await deliver(
        ctx,
        row["email"],
        "support/mail/visited",
        f"visited.{row['id']}",
        organization=row["organization"],
        why=row["reason"],
        began=f"{row['began_at']:%-d %B %Y, %H:%M} UTC",
        ended=f"{row['ended_at']:%-d %B %Y, %H:%M} UTC",
        link=link,
    )


@on(actions.open_break_glass)
async def see_to_the_end_of_rights(ctx: Context, event: Event) -> None:
    grant_id, minutes = UUID(event.facts["grant"]), timedelta(minutes=event.facts["minutes"])
    await jobs.enqueue(ctx, end_rights, delay=minutes, grant_id=grant_id)


@job(retry=PATIENT)
async def end_rights(ctx: Context, grant_id: UUID) -> None:
    await actions.end_break_glass(ctx, grant_id)


@on(actions.open_break_glass, actions.close_break_glass, actions.end_break_glass)
async def tell_staff(ctx: Context, event: Event) -> None:
    if (grant := event.facts.get("grant")) is None:
        return
    over = event.action != actions.open_break_glass.rule.name  # type: ignore[attr-defined]
    people = await _all_staff(ctx)
    await jobs.enqueue_each(
        ctx, mail_staff, [{"grant_id": UUID(grant), "user_id": person, "over": over} for person in people]
    )


async def _all_staff(ctx: Context) -> Sequence[UUID]:
    return (await ctx.db.scalars(select(User.id).where(User.is_staff, User.staff_until.is_(None)))).all()


@job(retry=PATIENT)
async def mail_staff(ctx: Context, grant_id: UUID, user_id: UUID, over: bool) -> None:
    """To each colleague: that somebody has emergency rights, or has them no longer and waits for a review."""
    grant = await ctx.db.scalar(select(BreakGlassGrant).where(BreakGlassGrant.id == grant_id))
    to = await ctx.db.scalar(select(User).where(User.id == user_id))
    if grant is None or to is None:
        return
    whose = await ctx.db.scalar(select(User.name).where(User.id == grant.user_id))
    await deliver(
        ctx,
        to.email,
        f"support/mail/{'rights_over' if over else 'rights_open'}",
        f"break-glass.{grant.id}.{to.id}.{over}",
        who=whose or "Somebody",
        why=grant.reason,
        until=f"{grant.over_at:%-d %B %Y, %H:%M} UTC",
        link=f"{ctx.settings.base_url.rstrip('/')}/staff/break-glass/{grant.id}",
    )


@on(actions.record_review)
async def tell_of_the_record(ctx: Context, event: Event) -> None:
    grant = UUID(event.facts["grant"])
    people = await _all_staff(ctx)
    await jobs.enqueue_each(ctx, mail_record, [{"grant_id": grant, "user_id": person} for person in people])


@job(retry=PATIENT)
async def mail_record(ctx: Context, grant_id: UUID, user_id: UUID) -> None:
    """To the colleague whose name a shell has put under a review, and to all others: it waits for them."""
    grant = await ctx.db.scalar(select(BreakGlassGrant).where(BreakGlassGrant.id == grant_id))
    to = await ctx.db.scalar(select(User).where(User.id == user_id))
    if grant is None or to is None or grant.recorded_at is None or grant.reviewed_at is not None:
        return
    rows = await ctx.db.execute(select(User.id, User.name).where(User.id.in_([grant.user_id, grant.reviewed_by])))
    names = {row.id: row.name for row in rows}
    await deliver(
        ctx,
        to.email,
        "support/mail/review_recorded",
        f"break-glass.{grant.id}.{to.id}.recorded.{grant.recorded_at.timestamp()}",
        who=names.get(grant.user_id) or "Somebody",
        reviewer=names.get(grant.reviewed_by) or "somebody without a name",
        found=grant.review,
        link=f"{ctx.settings.base_url.rstrip('/')}/staff/break-glass/{grant.id}",
    )


async def measure(resources: Resources) -> None:
    """Set the gauges that the alerts watch; every process can: the table is for all of staff."""
    async with resources.database.unit_of_work(read_only=True) as work:
        [row] = await work.fetch(COUNTS, now=clock.now())
    break_glass_open.set(row["open"])
    break_glass_unreviewed.set(row["unreviewed"])


telemetry.measures.append(measure)
