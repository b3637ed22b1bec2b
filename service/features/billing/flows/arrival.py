"""Coming back from Stripe's pages: read at once what was done there, so that nobody who has paid sees the old plan.

The session's id in the address proves nothing: it is only looked at for whose it is, and what is shown comes from our
own customer. The webhook alone would suffice, for whoever closes the tab.
"""

from __future__ import annotations

import asyncio
import re
from enum import StrEnum
from uuid import UUID

from service.core.context import Resources
from service.features.billing.flows.synchronize import synchronize_now
from service.features.billing.models import Subscription
from service.features.billing.models.mirror import LIVE, subscriptions_in_mode
from service.integrations.stripe.client import StripeApi
from service.integrations.stripe.errors import StripeAbsent, StripeFailed

WITHIN_SECONDS = 5.0
SESSION = re.compile(r"cs_[A-Za-z0-9_]{1,200}")


class Arrival(StrEnum):
    PAID = "paid"
    """There is a plan that is paid for, or on trial."""
    WAITING = "waiting"
    FOREIGN = "foreign"
    """The session is another organization's, or nobody's."""


async def arrive(resources: Resources, organization_id: UUID, customer: UUID | None, session: str) -> Arrival:
    """Bring our copy up to date, for five seconds at most; an empty `session` is somebody who just looks."""
    try:
        async with asyncio.timeout(WITHIN_SECONDS):
            if session and not await _is_ours(resources.get(StripeApi), session, organization_id):
                return Arrival.FOREIGN
            if customer is not None:
                await synchronize_now(resources, customer, within=WITHIN_SECONDS)
    except (StripeFailed, TimeoutError):
        pass  # what our copy knows by now decides
    mine = subscriptions_in_mode(organization_id, resources.settings.stripe_livemode)
    async with resources.database.unit_of_work(tenant=organization_id, read_only=True) as work:
        found = await work.session.scalar(mine.where(Subscription.status.in_(LIVE)).limit(1))
    return Arrival.PAID if found else Arrival.WAITING


async def _is_ours(api: StripeApi, session: str, organization_id: UUID) -> bool:
    if not SESSION.fullmatch(session):
        return False
    try:
        found = await api.call("get", f"/v1/checkout/sessions/{session}")
    except StripeAbsent:
        return False
    return bool(found.get("client_reference_id") == str(organization_id))
