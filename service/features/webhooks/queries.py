"""Reads. The log names no secret; payloads are shown one by one."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnClause, String, bindparam, cast, func, literal_column, select

from service.core.context import Context
from service.core.errors import NotFound
from service.core.statements import Prepared
from service.features.webhooks.models import Attempt, Delivery, Endpoint, Progress
from service.features.webhooks.schemas import (
    DeletedEndpointRead,
    DeliveryDetail,
    DeliveryRead,
    EndpointListed,
    EndpointRead,
    FailingRead,
)
from service.guardrails.actions import query
from service.guardrails.pagination import Keyset, Page, PageRequest, Position, paginate
from service.guardrails.permissions import Role, Who
from service.web.dead_letters import Letter, Lists, Sought
from service.web.staff_lists import Across, OfOrganization

ATTEMPTS_SHOWN = 50
COLUMNS = (
    Endpoint.id, Endpoint.url, Endpoint.description, Endpoint.event_types, Endpoint.ordered, Endpoint.state,
    Endpoint.reason, Endpoint.created_at, Endpoint.changed_at, Endpoint.failing_since, Endpoint.old_secret_until,
)  # fmt: skip
LOGGED = (
    Delivery.id, Delivery.endpoint_id, Delivery.event_id, Delivery.type, Delivery.state, Delivery.created_at,
    Delivery.next_attempt_at, Delivery.finished_at, Delivery.attempts, Delivery.last_status,
)  # fmt: skip
NEWEST = (Delivery.created_at.desc(), Delivery.id.desc())
OF_ENDPOINT = Delivery.endpoint_id == bindparam("endpoint_id")

LIST = Keyset(select(*COLUMNS), order=(Endpoint.id.asc(),))
BIN = Keyset(
    select(Endpoint.id, Endpoint.url, Endpoint.deleted_at).where(Endpoint.deleted_at.is_not(None)),
    order=(Endpoint.id.desc(),),
    include_deleted=True,
)
ONE = Prepared(select(*COLUMNS).where(Endpoint.id == bindparam("id")))
LOG = Keyset(select(*LOGGED).where(OF_ENDPOINT), order=NEWEST)
LOG_BY_STATE = Keyset(select(*LOGGED).where(OF_ENDPOINT, Delivery.state == bindparam("state")), order=NEWEST)
DELIVERY = Prepared(select(*LOGGED, Delivery.payload).where(Delivery.id == bindparam("id")))
ATTEMPTS = Prepared(
    select(Attempt.number, Attempt.at, Attempt.status, Attempt.milliseconds, Attempt.error, Attempt.response)
    .where(Attempt.delivery_id == bindparam("delivery_id"))
    .order_by(Attempt.number.desc())
    .limit(ATTEMPTS_SHOWN)
)

FAILED: ColumnClause[bool] = literal_column("webhook_deliveries.state = 'failed'")
"""Written out: as a parameter, PostgreSQL could not know that the small index over the failed ones fits."""
DEAD = Lists(
    select(
        Delivery.id,
        Delivery.type.label("name"),
        Delivery.organization_id,
        func.coalesce(literal_column("'HTTP '") + cast(Delivery.last_status, String), "no answer").label("error"),
        Delivery.attempts,
        func.coalesce(Delivery.finished_at, Delivery.created_at).label("gave_up_at"),
    ).where(FAILED),
    order=NEWEST,
    name=Delivery.type,
    identifier=Delivery.id,
    across_tenants=True,
)
_failing = select(*(getattr(Endpoint, name) for name in FailingRead.model_fields)).where(
    Endpoint.failing_since.is_not(None)
)
FAILING, FAILING_OF = (
    Keyset(each, order=(Endpoint.failing_since.asc(), Endpoint.id.asc()), across_tenants=True)
    for each in (_failing, _failing.where(Endpoint.organization_id == bindparam("organization_id")))
)

LISTED = Across(Endpoint, EndpointListed)


@query("webhooks.list", requires=Role.ADMIN)
async def list_endpoints(ctx: Context, page: PageRequest) -> Page[EndpointRead]:
    return await paginate(ctx, LIST, page, EndpointRead)


@query("webhooks.list_deleted", requires=Role.ADMIN)
async def list_deleted_endpoints(ctx: Context, page: PageRequest) -> Page[DeletedEndpointRead]:
    return await paginate(ctx, BIN, page, DeletedEndpointRead)


@query("webhooks.get", requires=Role.ADMIN)
async def get_endpoint(ctx: Context, endpoint_id: UUID) -> EndpointRead:
    row = await ctx.fetch_one(ONE, id=endpoint_id)
    if row is None:
        raise NotFound("There is no such endpoint.")
    return EndpointRead.model_validate(dict(row))


@query("webhooks.list_deliveries", requires=Role.ADMIN)
async def list_deliveries(
    ctx: Context, endpoint_id: UUID, page: PageRequest, *, state: Progress | None = None
) -> Page[DeliveryRead]:
    if state is None:
        return await paginate(ctx, LOG, page, DeliveryRead, endpoint_id=endpoint_id)
    return await paginate(ctx, LOG_BY_STATE, page, DeliveryRead, endpoint_id=endpoint_id, state=state.value)


@query("webhooks.get_delivery", requires=Role.ADMIN)
async def get_delivery(ctx: Context, delivery_id: UUID) -> DeliveryDetail:
    """Its attempts newest first, the last fifty of them."""
    row = await ctx.fetch_one(DELIVERY, id=delivery_id)
    if row is None:
        raise NotFound("There is no such message in the log.", mend="They are kept for 30 days.")
    tried = [dict(each) for each in await ctx.fetch(ATTEMPTS, delivery_id=delivery_id)]
    return DeliveryDetail.model_validate({**row, "tried": tried})


@query("webhooks.list_failing", requires=Who.STAFF)
async def list_failing(ctx: Context, wanted: OfOrganization, page: Position) -> Page[FailingRead]:
    """Whoever has failed longest comes first; of every organization, which a policy lets staff alone see, or of one."""
    if wanted.organization_id is None:
        return await paginate(ctx, FAILING, page, FailingRead)
    return await paginate(ctx, FAILING_OF, page, FailingRead, organization_id=wanted.organization_id)


@query("webhooks.list_dead", requires=Who.STAFF)
async def list_dead(ctx: Context, wanted: Sought, page: Position) -> Page[Letter]:
    """Messages of every organization that were given up on; a policy lets staff alone see them, and no payload here."""
    return await DEAD.page(ctx, wanted, page)


@query("webhooks.count_dead", requires=Who.STAFF)
async def count_dead(ctx: Context) -> int:
    return await DEAD.count(ctx)


@query("webhooks.list_for_staff", requires=Who.STAFF)
async def list_endpoints_for_staff(ctx: Context, wanted: OfOrganization, page: Position) -> Page[EndpointListed]:
    """Of all organizations or of one, newest first."""
    return await LISTED.page(ctx, wanted, page)
