"""JSON under /api/v1/webhooks. The secret is in the answer to a creation; a new one is made on the pages."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response, status

from service.features.webhooks import actions, queries
from service.features.webhooks.flows.address import insist_on_reachable
from service.features.webhooks.models import Delivery, Endpoint, Progress
from service.features.webhooks.schemas import (
    DeletedEndpointRead,
    DeliveryDetail,
    DeliveryRead,
    EndpointCreate,
    EndpointCreated,
    EndpointRead,
    EndpointUpdate,
    Range,
    Replayed,
)
from service.guardrails import preconditions
from service.guardrails.contexts import KeyCtx
from service.guardrails.idempotency import IdempotencyKey, IdempotentRoute
from service.guardrails.pagination import Page, PageRequest
from service.guardrails.preconditions import IfMatch

router = APIRouter(route_class=IdempotentRoute)


@router.get("")
async def list_endpoints(ctx: KeyCtx, page: PageRequest) -> Page[EndpointRead]:
    return await queries.list_endpoints(ctx, page)


@router.post("", status_code=status.HTTP_201_CREATED)
async def create_endpoint(ctx: KeyCtx, given: EndpointCreate, key: IdempotencyKey) -> EndpointCreated:
    await insist_on_reachable(ctx.resources, given.url)
    made = await actions.create_endpoint(ctx, given)
    return EndpointCreated(**_read(made).model_dump(), secret=made.open_secret())


@router.get("/bin")
async def list_deleted_endpoints(ctx: KeyCtx, page: PageRequest) -> Page[DeletedEndpointRead]:
    return await queries.list_deleted_endpoints(ctx, page)


@router.get("/{endpoint_id}")
async def get_endpoint(ctx: KeyCtx, endpoint_id: UUID, response: Response) -> EndpointRead:
    endpoint = await queries.get_endpoint(ctx, endpoint_id)
    preconditions.show(response, endpoint.changed_at)
    return endpoint


@router.patch("/{endpoint_id}")
async def update_endpoint(
    ctx: KeyCtx, endpoint_id: UUID, given: EndpointUpdate, unchanged: IfMatch, response: Response
) -> EndpointRead:
    if given.url is not None:
        await insist_on_reachable(ctx.resources, given.url)
    endpoint = await actions.update_endpoint(ctx, endpoint_id, given)
    preconditions.show(response, endpoint.changed_at)
    return _read(endpoint)


@router.delete("/{endpoint_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_endpoint(ctx: KeyCtx, endpoint_id: UUID) -> Response:
    await actions.delete_endpoint(ctx, endpoint_id)
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.post("/{endpoint_id}/restoration", status_code=status.HTTP_201_CREATED)
async def restore_endpoint(ctx: KeyCtx, endpoint_id: UUID, key: IdempotencyKey) -> EndpointRead:
    return _read(await actions.restore_endpoint(ctx, endpoint_id))


@router.post("/{endpoint_id}/pause", status_code=status.HTTP_201_CREATED)
async def pause_endpoint(ctx: KeyCtx, endpoint_id: UUID, key: IdempotencyKey) -> EndpointRead:
    return _read(await actions.pause_endpoint(ctx, endpoint_id))


@router.post("/{endpoint_id}/activation", status_code=status.HTTP_201_CREATED)
async def enable_endpoint(ctx: KeyCtx, endpoint_id: UUID, key: IdempotencyKey) -> EndpointRead:
    """Ends a pause, and brings back what was switched off for failing."""
    return _read(await actions.enable_endpoint(ctx, endpoint_id))


@router.post("/{endpoint_id}/tests", status_code=status.HTTP_201_CREATED)
async def send_test(ctx: KeyCtx, endpoint_id: UUID, key: IdempotencyKey) -> DeliveryRead:
    return _logged(await actions.send_test(ctx, endpoint_id))


@router.post("/{endpoint_id}/replays", status_code=status.HTTP_201_CREATED)
async def replay_range(ctx: KeyCtx, endpoint_id: UUID, given: Range, key: IdempotencyKey) -> Replayed:
    return Replayed(messages=await actions.replay_range(ctx, endpoint_id, given))


@router.get("/{endpoint_id}/deliveries")
async def list_deliveries(
    ctx: KeyCtx, endpoint_id: UUID, page: PageRequest, state: Progress | None = None
) -> Page[DeliveryRead]:
    await queries.get_endpoint(ctx, endpoint_id)  # another organization's is not an empty one
    return await queries.list_deliveries(ctx, endpoint_id, page, state=state)


@router.get("/deliveries/{delivery_id}")
async def get_delivery(ctx: KeyCtx, delivery_id: UUID) -> DeliveryDetail:
    return await queries.get_delivery(ctx, delivery_id)


@router.post("/deliveries/{delivery_id}/replays", status_code=status.HTTP_201_CREATED)
async def replay_delivery(ctx: KeyCtx, delivery_id: UUID, key: IdempotencyKey) -> DeliveryRead:
    return _logged(await actions.replay_delivery(ctx, delivery_id))


@router.post("/deliveries/{delivery_id}/skip", status_code=status.HTTP_201_CREATED)
async def skip_delivery(ctx: KeyCtx, delivery_id: UUID, key: IdempotencyKey) -> DeliveryRead:
    return _logged(await actions.skip_delivery(ctx, delivery_id))


def _read(endpoint: Endpoint) -> EndpointRead:
    return EndpointRead.model_validate(endpoint)


def _logged(delivery: Delivery) -> DeliveryRead:
    return DeliveryRead.model_validate(delivery)
