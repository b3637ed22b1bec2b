"""Read Stripe's own list of events, for those whose delivery never came: through the same inbox, so only once each.

The list goes 30 days back (https://docs.stripe.com/api/events), and an event that Stripe failed to make is on no list:
that is why objects are compared as well (reconcile.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import orjson

from service.core import clock
from service.core.context import Resources
from service.core.database import UnitOfWork
from service.core.logging import get_logger
from service.features.billing.flows.receive import message_of
from service.features.billing.flows.reconcile import BE_DUE, EVERYTHING
from service.features.billing.models.customer import INBOX
from service.guardrails.inbox import Message, State
from service.integrations.stripe.client import PAGE, StripeApi
from service.integrations.stripe.events import EventRefused, parse

log = get_logger()

OVERLAP = timedelta(minutes=15)
"""Events appear in the list late and out of order."""
HORIZON = timedelta(days=30)
LONG_AGO = timedelta(hours=1)
MOST = 10_000_000


async def read_events(resources: Resources, cursor: int) -> int:
    """Save what was missed since `cursor` (seconds since the epoch; 0: ever); the cursor to go on from next time.

    It is returned only after all pages are saved: a reading that broke off begins again where it began.
    """
    # By Stripe's clock: it stamps the events, and ours may be ahead of what it will make in a moment.
    now = clock.now() - timedelta(seconds=max(0.0, resources.get(StripeApi).clock_skew))
    since = max(cursor - OVERLAP.total_seconds(), (now - HORIZON).timestamp())
    if cursor and cursor < (now - LONG_AGO).timestamp():
        # A restored backup, or a long rest: who knows what else is of yesterday.
        async with resources.database.connection() as connection:
            await UnitOfWork(connection).raw.execute(BE_DUE, EVERYTHING)
    missed = 0
    async for page in _pages(resources, int(since)):
        async with resources.database.connection() as connection:
            raw = UnitOfWork(connection).raw
            for message in page:
                missed += await INBOX.receive(raw, message)
    if missed:
        log.warning("events were missed", count=missed)
    return int(now.timestamp())


async def _pages(resources: Resources, since: int) -> AsyncIterator[list[Message]]:
    page: list[Message] = []
    async for thing in resources.get(StripeApi).every("/v1/events", {"created": {"gte": since}}, most=MOST):
        page += _message(resources, thing)
        if len(page) >= PAGE:
            yield page
            page = []
    yield page


def _message(resources: Resources, thing: dict[str, Any]) -> list[Message]:
    """As the inbox keeps it, if a delivery would have brought it: the endpoint asks for our types only."""
    body = orjson.dumps(thing)
    try:
        message = message_of(resources, parse(body), body, "reconcile")
    except EventRefused as refused:
        log.warning("event not understood", why=str(refused))
        return []
    return [] if message.state is State.IGNORED and message.reason == "type" else [message]
