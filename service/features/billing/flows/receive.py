"""The webhook: believe it, save it, mark its customer, commit; then, and only then, say 200.

Nothing here asks Stripe, and the connection is one of a pool of its own: while Stripe's API hangs or every page waits
for a database connection, deliveries are still acknowledged. An answer that is not 2xx makes Stripe send it again, so
whatever goes wrong before the commit is no loss (https://docs.stripe.com/webhooks#acknowledge-events-immediately).
"""

from __future__ import annotations

import time
from typing import Any

from service.core.context import Resources
from service.core.database import overload_is_unavailable
from service.core.errors import BadRequest, NotFound
from service.core.logging import get_logger
from service.features.billing.flows import metrics
from service.features.billing.models.customer import INBOX
from service.features.billing.models.mirror import TERMINAL
from service.guardrails.contexts import Signed
from service.guardrails.inbox import AcknowledgingPool, Message, State
from service.guardrails.rate_limits import UNSIGNED, spend
from service.integrations.stripe.client import API_VERSION
from service.integrations.stripe.events import EventRefused, StripeEvent, parse
from service.integrations.stripe.signature import SignatureRefused, verify

log = get_logger()

ABOUT_CUSTOMERS = (
    "charge.", "checkout.session.", "credit_note.", "customer.", "entitlements.", "invoice.",
    "invoiceitem.", "payment_intent.", "payment_method.", "refund.", "setup_intent.", "subscription_schedule.",
)  # fmt: skip
"""Events that say something about a customer's state; `v1.` in front of them is the thin shape.

`invoice_payment.` names an invoice and no customer, and tells nothing that `payment_intent.` and `invoice.` do not.
"""
HEALTH = "v2.core.health."
"""Stripe failed to make an event at all: the only thing that helps is comparing the objects."""


async def receive(signed: Signed) -> str:
    """What became of a delivery: new, known or ignored. Raises BadRequest for what Stripe did not send like this."""
    began = time.perf_counter()
    resources = signed.resources
    if not resources.settings.billing_enabled:
        raise NotFound("Billing is off here.")
    try:
        secret = verify(resources.settings, signed.headers.get("stripe-signature"), signed.body)
        event = parse(signed.body)
    except (SignatureRefused, EventRefused) as refused:
        metrics.webhooks.labels("refused").inc()
        log.warning("webhook refused", why=str(refused))
        # Only failures are counted: Stripe, which signs, is never slowed down by whoever shares its address.
        await spend(resources, UNSIGNED, subject=signed.caller.address)
        raise BadRequest(
            "This is not a message from Stripe, or it was altered on the way.",
            mend="Check the endpoint's signing secret (STRIPE_WEBHOOK_SECRETS) and this machine's clock.",
        ) from refused
    message = _message(resources, event, signed.body, secret)
    async with resources.get(AcknowledgingPool).connection() as connection:
        with overload_is_unavailable():
            new = await INBOX.receive(connection, message)
    result = "known" if not new else "ignored" if message.state is State.IGNORED else "new"
    metrics.webhooks.labels(result).inc()
    metrics.acknowledged.observe(time.perf_counter() - began)
    return result


def message_of(resources: Resources, event: StripeEvent, body: bytes, via: str) -> Message:
    """An event as the inbox keeps it; the same for a delivery and for one that a sweep found in Stripe's list."""
    state, reason = State.UNMATCHED, ""
    if event.livemode != resources.settings.stripe_livemode:
        # A test card must not buy production access, nor the reverse: kept, looked at by nobody but people.
        state, reason = State.IGNORED, "mode"
        metrics.alarms.labels("other mode").inc()
        log.error("billing alarm", alarm="an event of the other mode", event_id=event.id, livemode=event.livemode)
    elif not event.type.removeprefix("v1.").startswith(ABOUT_CUSTOMERS) and not event.type.startswith(HEALTH):
        state, reason = State.IGNORED, "type"
    facts: dict[str, Any] = {
        "kind": event.kind, "via": via, "object_type": event.object_type, "object_id": event.object_id,
        "created": event.created.isoformat(), "api_version": event.api_version, "twin": event.snapshot_event_id,
        "request": event.request_id, "charge": event.charge_id, "reference": event.client_reference_id,
        "organization": event.metadata_organization_id,
    }  # fmt: skip
    if event.object_type == "subscription" and (event.type.endswith(".deleted") or event.status in TERMINAL):
        facts["ended"] = True
    realm = f"{'live' if event.livemode else 'test'}{f':{event.account}' if event.account else ''}"[:64]
    known = {name: value for name, value in facts.items() if value is not None}
    return Message(realm, event.id, event.type[:128], event.customer_id, body, state, reason, known)


def _message(resources: Resources, event: StripeEvent, body: bytes, secret: str) -> Message:
    if event.api_version not in (None, API_VERSION):
        # Harmless here, because state is read at our own version; but the endpoint wants to be upgraded.
        metrics.version_mismatches.inc()
    return message_of(resources, event, body, f"secret {secret}")
