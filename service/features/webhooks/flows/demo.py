"""The endpoints that `make run` shows: the sandbox's receiver, told of everything, with a first few messages; and one
that was switched off."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import select

from service.core import clock
from service.core.database import UnitOfWork
from service.core.ids import new_id
from service.features.indicators.models import Indicator
from service.features.webhooks.flows.record import record
from service.features.webhooks.models import SCHEDULE, Delivery, Endpoint, Progress, State, payload_of
from service.features.webhooks.schemas import EventType
from service.integrations.webhooks import new_secret

SHOWN = 3
LATER = timedelta(seconds=10)
"""Until the receiver has been told the secret that this answers."""


async def plant_endpoint(work: UnitOfWork, identifier: UUID, url: str) -> str:
    """Plant it once, or move it to where the receiver is now; answers its secret. `work` acts for its organization."""
    endpoint = (await work.session.execute(select(Endpoint).where(Endpoint.id == identifier))).scalar_one_or_none()
    if endpoint is None:
        endpoint = Endpoint(id=identifier, description="Demo receiver", event_types=list(EventType), ordered=False)
        endpoint.url = url
        endpoint.keep_secret(new_secret())
        work.session.add(endpoint)
        await work.session.flush()
        for indicator_id in (await work.session.execute(select(Indicator.id).limit(SHOWN))).scalars():
            await record(work, EventType.INDICATOR_CREATED, {"indicator_id": str(indicator_id)}, delay=LATER)
        work.session.add_all([_given_up(identifier), _switched_off()])
    endpoint.url = url
    return endpoint.open_secret()


def _switched_off() -> Endpoint:
    """Another one, which took nothing for days: it is sent nothing any more, and nobody is woken for it."""
    endpoint = Endpoint(
        id=new_id(), url="https://hooks.northwind.example/ballast", description="The old warehouse", ordered=False,
        event_types=[EventType.PLAN_CHANGED], state=State.DISABLED, reason="failing", failures=len(SCHEDULE) + 1,
        failing_since=clock.now() - timedelta(days=9), created_at=clock.now() - timedelta(days=60),
    )  # fmt: skip
    endpoint.keep_secret(new_secret())
    return endpoint


def _given_up(endpoint: UUID) -> Delivery:
    """What the receiver did not take last week; staff can send it again, and it does."""
    at = clock.now() - timedelta(days=7)
    return Delivery(
        id=new_id(), endpoint_id=endpoint, event_id=new_id(), type=EventType.PLAN_CHANGED,
        payload=payload_of(endpoint, EventType.PLAN_CHANGED, {}), state=Progress.FAILED, last_status=503,
        created_at=at, next_attempt_at=at, finished_at=at + timedelta(days=2), attempts=len(SCHEDULE) + 1,
        tries=len(SCHEDULE) + 1,
    )  # fmt: skip
