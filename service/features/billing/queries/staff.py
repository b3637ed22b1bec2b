"""What staff see: how far the copy is behind, the messages, and one customer with everything we know of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from itertools import chain, combinations
from typing import Annotated, Any
from uuid import UUID

from pydantic import BeforeValidator, Field, StringConstraints
from sqlalchemy import ColumnElement, Row, Select, bindparam, func, literal, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import InstrumentedAttribute

from service.core.context import Context
from service.core.database import Base
from service.core.errors import NotFound
from service.core.schemas import Input, Line, Output
from service.features.billing.models import (
    BillingCustomer,
    BillingSweep,
    Effect,
    Invoice,
    LedgerEntry,
    Operation,
    PlanOverride,
    Subscription,
)
from service.features.billing.models.customer import reading_of
from service.features.organizations.models import Organization
from service.guardrails.actions import query
from service.guardrails.audit import AuditRow
from service.guardrails.entitlements import Entitlement, EntitlementChange
from service.guardrails.inbox import InboxMessage, State
from service.guardrails.pagination import Keyset, Page, PageRequest, Position, paginate
from service.guardrails.permissions import Who
from service.web.staff_lists import Across, OfOrganization

SHOWN = 20
OPEN = (State.PENDING, State.UNMATCHED, State.DEAD)
DIRTY = BillingCustomer.dirty_gen > BillingCustomer.synced_gen
DEAD = (DIRTY, BillingCustomer.dead_at.is_not(None))
BY_A_READING = ("billing.set_entitlement", "billing.notify")

Blank = BeforeValidator(lambda value: value or None)
Some = Annotated[str, StringConstraints(max_length=255)]


class Filters(Input):
    """Which messages are meant; a day is a whole day in UTC."""

    state: Annotated[State | None, Blank] = Field(None, title="State")
    type: Annotated[Some | None, Blank] = Field(None, title="Type")
    subject: Annotated[Some | None, Blank] = Field(None, title="Customer at Stripe")
    since: Annotated[Annotated[date, Field(ge=date(2000, 1, 1), le=date(2999, 12, 31))] | None, Blank] = Field(
        None, title="Received since"
    )

    def values(self) -> dict[str, Any]:
        """Those that were given, as parameters of a list."""
        given = self.model_dump(exclude_none=True)
        return given | {"since": datetime.combine(self.since, time(), UTC)} if self.since else given


class MessageRead(Output):
    id: int
    received_at: datetime
    type: str
    subject: str | None
    state: State
    reason: str

    @property
    def customer(self) -> str | None:
        return self.subject

    @property
    def note(self) -> str:
        """A word of ours: why it counts for nothing."""
        return self.reason


class SubscriptionsWanted(OfOrganization):
    """Which subscriptions staff ask about."""

    stripe_id: Annotated[Line, StringConstraints(max_length=255)] = Field(
        "", title="Subscription", description="Its id at Stripe (sub_...); empty for all."
    )


class SubscriptionListed(Output):
    """A subscription as staff see it in the list."""

    stripe_id: str
    organization_id: UUID
    customer_id: UUID
    status: str
    period_end: datetime | None
    cancel_at: datetime | None
    created_at: datetime


def fits(name: str, value: ColumnElement[Any]) -> ColumnElement[bool]:
    if name != "since":
        return getattr(InboxMessage, name) == value  # type: ignore[no-any-return]
    # Messages are numbered as they arrive: from the first of that day on, the list's own order finds the page.
    first = select(InboxMessage.id).where(InboxMessage.received_at >= value).order_by(InboxMessage.received_at).limit(1)
    return InboxMessage.id >= func.coalesce(first.scalar_subquery(), 2**62)


def _messages(names: Sequence[str]) -> Keyset:
    columns = [getattr(InboxMessage, name) for name in MessageRead.model_fields]
    known = {name: getattr(InboxMessage, "received_at" if name == "since" else name) for name in names}
    terms = [fits(name, bindparam(name, type_=column.type)) for name, column in known.items()]
    mine = InboxMessage.source == literal("stripe")
    return Keyset(select(*columns).where(mine, *terms), order=(InboxMessage.id.desc(),))


NAMES = tuple(Filters.model_fields)
MESSAGES = {
    names: _messages(names)
    for names in chain.from_iterable(combinations(NAMES, count) for count in range(len(NAMES) + 1))
}
SUBSCRIPTIONS = Across(Subscription, SubscriptionListed, key=Subscription.stripe_id)


@dataclass(frozen=True, slots=True)
class Overview:
    dirty: int
    dead: int
    waiting_since: datetime | None
    unmatched: int
    sweeps: list[BillingSweep]


@dataclass(frozen=True, slots=True)
class Message:
    row: InboxMessage
    customer: BillingCustomer | None
    changed: list[AuditRow]
    """What the reading that this message became part of has changed."""

    @property
    def is_open(self) -> bool:
        return self.row.state in OPEN

    @property
    def is_untied(self) -> bool:
        """It names a customer that we do not know, and that could be ours."""
        return self.customer is None and bool(self.row.subject) and self.row.reason != "mode"


@dataclass(frozen=True, slots=True)
class Workbench:
    """Everything about one customer; of long lists the newest."""

    customer: BillingCustomer
    name: str | None
    entitlement: Entitlement | None
    sums: list[Row[Any]]
    lists: dict[str, list[Any]] = field(default_factory=dict)


@query("billing.staff_overview", requires=Who.STAFF)
async def get_overview(ctx: Context) -> Overview:
    waiting = BillingCustomer.dead_at.is_(None)
    counts = select(
        func.count().filter(waiting),
        func.count().filter(~waiting),
        func.min(BillingCustomer.dirty_since).filter(waiting),
    ).where(DIRTY)
    unmatched = select(func.count()).where(InboxMessage.state == State.UNMATCHED).scalar_subquery()
    dirty, dead, waiting_since, lost = (await ctx.db.execute(counts.add_columns(unmatched))).one()
    sweeps = (await ctx.db.execute(select(BillingSweep).order_by(BillingSweep.stream))).scalars()
    return Overview(dirty, dead, waiting_since, lost, list(sweeps))


@query("billing.staff_find", requires=Who.STAFF)
async def find_customers(ctx: Context, wanted: str) -> list[Row[Any]]:
    """By our id or the organization's, by Stripe's, or by a part of the organization's name; with an empty id for an
    organization that has no customer yet."""
    columns = (BillingCustomer.id, BillingCustomer.stripe_customer_id, BillingCustomer.organization_id)
    here = Organization.id == BillingCustomer.organization_id
    customers: Select[*tuple[Any, ...]] = select(*columns, Organization.name).outerjoin(Organization, here)
    owners = select(*columns[:2], Organization.id.label("organization_id"), Organization.name).outerjoin(
        BillingCustomer, here
    )
    try:
        known = UUID(wanted)
    except ValueError:
        statement = customers.where(BillingCustomer.stripe_customer_id == wanted)
        if not wanted.startswith("cus_"):
            statement = owners.where(Organization.name.icontains(wanted, autoescape=True))
    else:
        await ctx.work.act_for(tenant=known, user=ctx.user_id)  # an organization shows itself to whoever acts for it
        statement = owners.where(Organization.id == known)
        if mine := (await ctx.db.execute(customers.where(BillingCustomer.id == known))).all():
            return list(mine)
    return list(await ctx.db.execute(statement.order_by(Organization.id.desc()).limit(SHOWN)))


@query("billing.staff_messages", requires=Who.STAFF)
async def list_messages(ctx: Context, wanted: Filters, page: Position) -> Page[MessageRead]:
    values = wanted.values()
    return await paginate(ctx, MESSAGES[tuple(name for name in NAMES if name in values)], page, MessageRead, **values)


@query("billing.list_subscriptions", requires=Who.STAFF)
async def list_subscriptions(ctx: Context, wanted: SubscriptionsWanted, page: PageRequest) -> Page[SubscriptionListed]:
    """Of all organizations or of one; or the one that Stripe calls so."""
    return await SUBSCRIPTIONS.page(ctx, wanted, page, wanted.stripe_id)


@query("billing.visit", requires=Who.STAFF)
async def visit(ctx: Context, customer_id: UUID) -> BillingCustomer:
    """Find a customer and act for its organization from here on. Raises NotFound."""
    found = await ctx.db.execute(select(BillingCustomer).where(BillingCustomer.id == customer_id))
    if (customer := found.scalar_one_or_none()) is None:
        raise NotFound("There is no such customer.")
    await _act_for(ctx, customer.organization_id)
    return customer


@query("billing.staff_message", requires=Who.STAFF)
async def get_message(ctx: Context, message_id: int) -> Message:
    """A message, whose it is, and what became of it; acts for that organization from here on. Raises NotFound."""
    statement = select(InboxMessage, BillingCustomer).outerjoin(
        BillingCustomer, BillingCustomer.stripe_customer_id == InboxMessage.subject
    )
    row = (await ctx.db.execute(statement.where(InboxMessage.id == message_id))).one_or_none()
    if row is None:
        raise NotFound("There is no such message.")
    message, customer = row
    await _act_for(ctx, customer.organization_id if customer else None)
    changed: list[AuditRow] = []
    if customer and message.applied_version is not None:
        reading = reading_of(customer.stripe_customer_id, message.applied_version)
        mine = select(AuditRow).where(AuditRow.action.in_(BY_A_READING), AuditRow.request_id == reading)
        changed = list((await ctx.db.execute(mine.order_by(AuditRow.id).limit(SHOWN))).scalars())
    return Message(message, customer, changed)


@query("billing.staff_customer", requires=Who.STAFF)
async def get_workbench(ctx: Context, customer_id: UUID) -> Workbench:
    customer = await visit(ctx, customer_id)
    names = select(Organization.name, Entitlement).outerjoin(
        Entitlement, Entitlement.organization_id == Organization.id
    )
    name, entitlement = (
        await ctx.db.execute(names.where(Organization.id == customer.organization_id))
    ).one_or_none() or (None, None)
    found = {
        what.__tablename__: await _newest(ctx, what, order)
        for what, order in (
            (Subscription, Subscription.created_at),
            (Invoice, Invoice.created_at),
            (Operation, Operation.id),
            (Effect, Effect.created_at),
            (LedgerEntry, LedgerEntry.id),
            (PlanOverride, PlanOverride.id),
            (EntitlementChange, EntitlementChange.id),
        )
    }
    return Workbench(customer, name, entitlement, await _sums(ctx), found)


@query("billing.staff_charge", requires=Who.STAFF)
async def is_own_charge(ctx: Context, charge: str) -> bool:
    """Whether the acting organization paid this charge: a refund of anybody else's must not begin here."""
    mine = select(LedgerEntry.id).where(LedgerEntry.kind == "charge", LedgerEntry.stripe_id == charge)
    return (await ctx.db.execute(mine.limit(1))).first() is not None


async def _newest(ctx: Context, what: type[Base], order: InstrumentedAttribute[Any]) -> list[Any]:
    return list((await ctx.db.execute(select(what).order_by(order.desc()).limit(SHOWN))).scalars())


async def _sums(ctx: Context) -> list[Row[Any]]:
    """What the ledger adds up to, by kind and status: the newest line of each thing counts."""
    newest = (
        select(LedgerEntry.kind, LedgerEntry.status, LedgerEntry.currency, LedgerEntry.amount)
        .ext(distinct_on(LedgerEntry.stripe_id))
        .order_by(LedgerEntry.stripe_id, LedgerEntry.id.desc())
        .subquery()
    )
    keys = (newest.c.kind, newest.c.status, newest.c.currency)
    total = func.sum(newest.c.amount).label("amount")
    return list(await ctx.db.execute(select(*keys, func.count().label("count"), total).group_by(*keys).order_by(*keys)))


async def _act_for(ctx: Context, organization: UUID | None) -> None:
    """What is done from here on is the customer's: its rows, its log. The person keeps no role there."""
    await ctx.work.act_for(tenant=organization, user=ctx.user_id)
    ctx.organization_id, ctx.role, ctx.entitlements = organization, None, None
