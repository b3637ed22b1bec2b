"""Mails about money: one per fact and person, and none about what is no longer so when it would be sent.

Two steps: the notice's own job decides who hears of it, and one job per person reads the state again and sends. A mail
server that takes the first mail and loses the second repeats the second alone.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import and_, select, update

from service.core import clock
from service.core.context import Context
from service.features.accounts.models import User
from service.features.billing import actions
from service.features.billing.flows.apply import RECENT
from service.features.billing.flows.notices import notices
from service.features.billing.models import BillingCustomer, Effect, Invoice
from service.features.billing.models.customer import in_mode
from service.features.billing.models.derive import plan_of_item
from service.features.billing.models.mirror import LIVE, subscriptions_in_mode
from service.features.billing.schemas import costs
from service.features.organizations.models import Membership, Organization
from service.guardrails import jobs
from service.guardrails.jobs import Event, job, on
from service.guardrails.mailing import Reach
from service.guardrails.permissions import Role
from service.web.formats import day, money
from service.web.mail import PATIENT, deliver, letter

SENT, SUPERSEDED, NOBODY = "sent", "superseded", "nobody"
MONEY = {"amount": "€12.00", "next_attempt": "3 March 2026", "grace_ends": "8 March 2026"}
for _kind, _values in {
    "payment_failed": MONEY,
    "action_required": MONEY,
    "recovered": MONEY,
    "trial_ending": {"plan": "Team", "amount": "€12.00", "day": "1 March 2026"},
    "ended": {"plan": "Team", "amount": "€12.00", "day": "1 March 2026"},
}.items():
    sample = {"organization": "Northwind Traders", "link": "https://app.example/billing", **_values}
    letter(f"billing/mail/{_kind}", Reach.MUST, **sample)


class StillReading(Exception):
    """Something was heard of the customer and is not read yet: it may be that they have paid."""


# In a line, so that "failed" is never mailed after "paid".
@on(actions.notify, key="action", retry=PATIENT)
async def mail_notice(ctx: Context, event: Event) -> None:
    if not event.facts["new"]:
        return
    people = await ctx.db.execute(
        select(Membership.user_id)
        .join(User, User.id == Membership.user_id)
        .where(Membership.role.in_((Role.OWNER, Role.ADMIN)))
        .order_by(Membership.id)
    )
    found = list(people.scalars())
    for user_id in found:
        await jobs.enqueue(ctx, mail_person, effect_key=event.facts["effect"], user_id=user_id)
    if not found:
        await _settle(ctx, event.facts["effect"], NOBODY)


@job(key="user_id", retry=PATIENT)
async def mail_person(ctx: Context, effect_key: str, user_id: UUID) -> None:
    """Send one notice to one person, if it is still true. Raises StillReading, MailFailed: to be tried again."""
    mine = and_(*in_mode(ctx.organization_id, ctx.settings.stripe_livemode))
    unread = (BillingCustomer.dirty_gen > BillingCustomer.synced_gen) & BillingCustomer.dead_at.is_(None)
    if (await ctx.db.execute(select(BillingCustomer.id).where(mine & unread))).first():
        raise StillReading
    values = await _still_true(ctx, effect_key)
    user = (await ctx.db.execute(select(User).where(User.id == user_id))).scalar_one_or_none()
    if values is None or user is None:
        await _settle(ctx, effect_key, SUPERSEDED)
        return
    kind = effect_key.partition(":")[0]
    reference = f"billing.{effect_key.replace(':', '.')}.{user_id}"
    await deliver(ctx, user.email, f"billing/mail/{kind}", reference, **values)
    await _settle(ctx, effect_key, SENT)


async def _settle(ctx: Context, effect_key: str, outcome: str) -> None:
    """What became of it; sent to one of several is sent."""
    open_ = Effect.outcome.is_(None) if outcome != SENT else Effect.outcome.is_distinct_from(SENT)
    change = update(Effect).where(Effect.effect_key == effect_key, open_)
    await ctx.db.execute(change.values(outcome=outcome, settled_at=clock.now()))


async def _still_true(ctx: Context, effect_key: str) -> dict[str, object] | None:
    """What the mail says, from our copy as it is now; None when the fact has been overtaken."""
    now = clock.now()
    organization = (
        await ctx.db.execute(select(Organization).where(Organization.id == ctx.organization_id))
    ).scalar_one_or_none()
    mine = subscriptions_in_mode(ctx.organization_id, ctx.settings.stripe_livemode)
    subscriptions = {one.stripe_id: one for one in (await ctx.db.execute(mine)).scalars()}
    recent = await ctx.db.execute(select(Invoice).where(Invoice.created_at > now - RECENT))
    invoices = {one.stripe_id: one for one in recent.scalars()}
    true = {key for key, _, _ in notices(subscriptions.values(), invoices.values(), now)}
    if organization is None or effect_key not in true:
        return None
    values: dict[str, object] = {
        "organization": organization.name,
        "link": f"{ctx.settings.base_url.rstrip('/')}/billing",
    }
    about = effect_key.split(":")[1]
    if (invoice := invoices.get(about)) is not None:
        grace_ends = invoice.created_at + timedelta(days=ctx.settings.grace_days)
        return values | {
            "amount": money(invoice.amount_due, invoice.currency),
            "next_attempt": invoice.next_attempt_at and day(invoice.next_attempt_at),
            "grace_ends": day(grace_ends),
        }
    subscription = subscriptions[about]
    if subscription.ended_at is None and subscription.ends_at is not None:
        return None  # a trial that will not be paid for
    if subscription.ended_at is not None and any(other.status in LIVE for other in subscriptions.values()):
        return None  # one plan ended because another took its place
    plans = [plan.name for item in subscription.items if (plan := plan_of_item(item))]
    return values | {
        "plan": ", ".join(plans) or "paid",
        "amount": costs(subscription.items, subscription.currency),
        "day": day(subscription.ended_at or subscription.trial_end),
    }
