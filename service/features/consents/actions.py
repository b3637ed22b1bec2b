"""Writes: yes and no to a purpose, leaving data alone and taking that back, and news for those who asked for it."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import or_, select

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, NotFound
from service.features.accounts.models import User
from service.features.consents.models import News
from service.guardrails.actions import action
from service.guardrails.permissions import Who
from service.guardrails.purposes import EVERYTHING, PURPOSES, Basis, Consent, ProcessingLimit, said
from service.guardrails.subjects import address_hash


@action("consents.decide", requires=Who.SIGNED_IN, while_read_only=True)
async def decide(ctx: Context, purpose: str, *, yes: bool, version: int | None = None) -> None:
    """Agree or object, or take that back: one click each way. To say the same twice is no error.

    `version`: of the words that stood beside the button. A yes to other words is none (Art. 7(1)); a no needs none."""
    aim = PURPOSES.get(purpose)
    if aim is None:
        raise NotFound("There is no such purpose.", mend="Reload the page to see those there are.")
    if yes and aim.basis is Basis.CONSENT and version != aim.version:
        raise Conflict("These words have changed since you opened the page.", mend="Read them, and agree again.")
    await ctx.get(User, ctx.user_id)  # one click after another: the order of the lines is the order of the clicks
    ctx.facts |= {"purpose": aim.name, "version": aim.version, "yes": yes}
    if aim.basis is Basis.CONSENT:
        newest = select(Consent.given, Consent.version).where(
            Consent.user_id == ctx.user_id, Consent.purpose == aim.name
        )
        word = (await ctx.db.execute(newest.order_by(Consent.id.desc()).limit(1))).first()
        if word is not None and tuple(word) == (yes, aim.version):
            return
        ctx.add(said(ctx.user_id, aim, given=yes, source="page"))
        return
    limit = await _open_limit(ctx, ctx.user_id, aim.name)
    if yes and limit is not None:
        limit.lifts_at = clock.now()
    elif not yes and limit is None:
        ctx.add(ProcessingLimit(user_id=ctx.user_id, purpose=aim.name, placed_by=ctx.user_id))


@action("consents.restrict", requires=Who.SIGNED_IN, while_read_only=True)
async def restrict(ctx: Context, reason: str) -> None:
    """The person wants their data left alone: kept, and used for nothing that they do not ask for themselves."""
    await ctx.get(User, ctx.user_id)
    if await _open_limit(ctx, ctx.user_id, EVERYTHING) is None:
        ctx.add(ProcessingLimit(user_id=ctx.user_id, purpose=EVERYTHING, reason=reason, placed_by=ctx.user_id))


@action("consents.unrestrict", requires=Who.SIGNED_IN)
async def unrestrict(ctx: Context) -> None:
    """Their own wish, so at once and without notice: also where staff have set a later day."""
    await ctx.get(User, ctx.user_id)
    now, theirs = clock.now(), (ProcessingLimit.user_id == ctx.user_id, ProcessingLimit.purpose == EVERYTHING)
    lasts = or_(ProcessingLimit.lifts_at.is_(None), ProcessingLimit.lifts_at > now)
    for limit in await ctx.db.scalars(select(ProcessingLimit).where(*theirs, lasts).with_for_update()):
        limit.lifts_at = now


@action("consents.restrict_person", requires=Who.STAFF, step_up=True)
async def restrict_person(ctx: Context, email: str, reason: str) -> ProcessingLimit:
    """For somebody who asked by letter, or disputes what we hold."""
    await ctx.work.act_for(tenant=None, user=ctx.user_id)
    wanted = select(User).where(User.email == email.strip().lower()).with_for_update()
    user = await ctx.db.scalar(wanted, execution_options={"include_deleted": True})
    if user is None:
        ctx.note("consents.restrict_person", "refused", sought=address_hash(email).hex())
        raise NotFound("There is no account with this address.", mend="Check the address.")
    if await _open_limit(ctx, user.id, EVERYTHING) is not None:
        ctx.note("consents.restrict_person", "refused", account=str(user.id))
        raise Conflict("This person's data rest already.", mend="See the list below.")
    limit = ProcessingLimit(user_id=user.id, purpose=EVERYTHING, reason=reason, placed_by=ctx.user_id)
    ctx.add(limit)
    ctx.facts |= {"account": str(user.id), "reason": reason}
    return limit


@action("consents.lift_restriction", requires=Who.STAFF, step_up=True)
async def lift_restriction(ctx: Context, limit_id: UUID, reason: str) -> ProcessingLimit:
    """Decide that it ends. It holds on until the person has been told, and three days longer (Art. 18(3))."""
    await ctx.work.act_for(tenant=None, user=ctx.user_id)
    limit = await ctx.get(ProcessingLimit, limit_id)
    if limit.purpose != EVERYTHING or limit.lifting_asked_at is not None or limit.lifts_at is not None:
        raise Conflict("This restriction ends already.", mend="Reload the page.")
    limit.lifting_asked_at = clock.now()
    ctx.facts |= {"account": str(limit.user_id), "reason": reason}
    return limit


@action("consents.send_news", requires=Who.STAFF, step_up=True)
async def send_news(ctx: Context, subject: str, text: str, reason: str) -> News:
    """To everybody who agreed to it, and to nobody else."""
    await ctx.work.act_for(tenant=None, user=ctx.user_id)
    news = News(subject=subject, text=text)
    ctx.add(news)
    ctx.facts |= {"reason": reason}
    return news


async def _open_limit(ctx: Context, user_id: UUID, purpose: str) -> ProcessingLimit | None:
    wanted = select(ProcessingLimit).where(
        ProcessingLimit.user_id == user_id, ProcessingLimit.purpose == purpose, ProcessingLimit.lifts_at.is_(None)
    )
    found: ProcessingLimit | None = await ctx.db.scalar(wanted.with_for_update())
    return found
