"""JSON under /api/v1/webhooks. The secret is in the answer to a creation; a new one is made on the pages."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response, status

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
from service.guardrails.actions import allow
from service.guardrails.contexts import KeyCtx
from service.guardrails.idempotency import IdempotencyKey, IdempotentRoute
from service.guardrails.pagination import Page, PageRequest
from service.guardrails.preconditions import IfMatch

State = Annotated[Progress | None, Query(description="Only those that are this far")]

router = APIRouter(route_class=IdempotentRoute)


@router.get("")
async def list_endpoints(ctx: KeyCtx, page: PageRequest) -> Page[EndpointRead]:
    """Where the organization has its events sent, a page at a time."""
    return await queries.list_endpoints(ctx, page)


@router.post("", status_code=status.HTTP_201_CREATED)
async def create_endpoint(ctx: KeyCtx, given: EndpointCreate, key: IdempotencyKey) -> EndpointCreated:
    """A new address for events. Its secret is in this answer and nowhere else."""
    allow(ctx, actions.create_endpoint)  # whoever may not save an address has nothing looked up for them
    await insist_on_reachable(ctx, given.url)
    made = await actions.create_endpoint(ctx, given)
    return EndpointCreated(**_read(made).model_dump(), secret=made.open_secret())


@router.get("/bin")
async def list_deleted_endpoints(ctx: KeyCtx, page: PageRequest) -> Page[DeletedEndpointRead]:
    """Deleted a short while ago, the latest first; each can be restored."""
    return await queries.list_deleted_endpoints(ctx, page)


@router.get("/{endpoint_id}")
async def get_endpoint(ctx: KeyCtx, endpoint_id: UUID, response: Response) -> EndpointRead:
    """One endpoint and how it fares. Its `ETag` is what `If-Match` takes."""
    endpoint = await queries.get_endpoint(ctx, endpoint_id)
    preconditions.show(response, endpoint.changed_at)
    return endpoint


@router.patch("/{endpoint_id}")
async def update_endpoint(
    ctx: KeyCtx, endpoint_id: UUID, given: EndpointUpdate, unchanged: IfMatch, response: Response
) -> EndpointRead:
    """Change what is sent and leave the rest; with `If-Match`, only the version that you have read."""
    if given.url is not None:
        allow(ctx, actions.update_endpoint)
        await insist_on_reachable(ctx, given.url)
    endpoint = await actions.update_endpoint(ctx, endpoint_id, given)
    preconditions.show(response, endpoint.changed_at)
    return _read(endpoint)


@router.delete("/{endpoint_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_endpoint(ctx: KeyCtx, endpoint_id: UUID, unchanged: IfMatch) -> Response:
    """Send nothing there any more, and move it to the bin; with `If-Match`, only the version that you have read."""
    await actions.delete_endpoint(ctx, endpoint_id)
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.post("/{endpoint_id}/restoration", status_code=status.HTTP_201_CREATED)
async def restore_endpoint(ctx: KeyCtx, endpoint_id: UUID, key: IdempotencyKey) -> EndpointRead:
    """Bring it back from the bin."""
    return _read(await actions.restore_endpoint(ctx, endpoint_id))


@router.post("/{endpoint_id}/pause", status_code=status.HTTP_201_CREATED)
async def pause_endpoint(ctx: KeyCtx, endpoint_id: UUID, key: IdempotencyKey) -> EndpointRead:
    """Send nothing there until it is activated again; what happens meanwhile waits."""
    return _read(await actions.pause_endpoint(ctx, endpoint_id))


@router.post("/{endpoint_id}/activation", status_code=status.HTTP_201_CREATED)
async def enable_endpoint(ctx: KeyCtx, endpoint_id: UUID, key: IdempotencyKey) -> EndpointRead:
    """Ends a pause, and brings back what was switched off for failing."""
    return _read(await actions.enable_endpoint(ctx, endpoint_id))


@router.post("/{endpoint_id}/tests", status_code=status.HTTP_201_CREATED)
async def send_test(ctx: KeyCtx, endpoint_id: UUID, key: IdempotencyKey) -> DeliveryRead:
    """Send a test event now, to see what the other side makes of it."""
    return _logged(await actions.send_test(ctx, endpoint_id))


@router.post("/{endpoint_id}/replays", status_code=status.HTTP_201_CREATED)
async def replay_range(ctx: KeyCtx, endpoint_id: UUID, given: Range, key: IdempotencyKey) -> Replayed:
    """Send the messages of a period again."""
    return Replayed(messages=await actions.replay_range(ctx, endpoint_id, given))


@router.get("/{endpoint_id}/deliveries")
async def list_deliveries(ctx: KeyCtx, endpoint_id: UUID, page: PageRequest, state: State = None) -> Page[DeliveryRead]:
    """The messages of an endpoint, the latest first, with how each went."""
    await queries.get_endpoint(ctx, endpoint_id)  # another organization's is not an empty one
    return await queries.list_deliveries(ctx, endpoint_id, page, state=state)


@router.get("/deliveries/{delivery_id}")
async def get_delivery(ctx: KeyCtx, delivery_id: UUID) -> DeliveryDetail:
    """One message with its content and every attempt to deliver it."""
    return await queries.get_delivery(ctx, delivery_id)


@router.post("/deliveries/{delivery_id}/replays", status_code=status.HTTP_201_CREATED)
async def replay_delivery(ctx: KeyCtx, delivery_id: UUID, key: IdempotencyKey) -> DeliveryRead:
    """Send one message again."""
    return _logged(await actions.replay_delivery(ctx, delivery_id))


@router.post("/deliveries/{delivery_id}/skip", status_code=status.HTTP_201_CREATED)
async def skip_delivery(ctx: KeyCtx, delivery_id: UUID, key: IdempotencyKey) -> DeliveryRead:
    """Give a message up, so that those behind it go on where the order is kept."""
    return _logged(await actions.skip_delivery(ctx, delivery_id))


def _read(endpoint: Endpoint) -> EndpointRead:
    return EndpointRead.model_validate(endpoint)


def _logged(delivery: Delivery) -> DeliveryRead:
    return DeliveryRead.model_validate(delivery)
