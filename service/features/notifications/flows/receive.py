"""SendGrid's events: believe them, save them, and only then say 200; what they mean is worked out later.

An answer that is not 2xx makes SendGrid send them again for a day, so whatever goes wrong before the commit is no loss.
A delivery holds many events: each is one message with SendGrid's own id, so that what comes twice counts once.
"""

from __future__ import annotations

from typing import Any

import orjson

from service.core.database import overload_is_unavailable
from service.core.errors import BadRequest
from service.core.logging import get_logger
from service.features.notifications.flows import metrics
from service.features.notifications.schemas import SOURCE
from service.guardrails.contexts import Signed
from service.guardrails.inbox import AcknowledgingPool, Inbox, Message, State
from service.guardrails.rate_limits import UNSIGNED, spend
from service.integrations.mail.sendgrid import REFERENCE
from service.integrations.mail.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, SignatureRefused, verify

INBOX = Inbox(SOURCE, mark="SELECT NULL::bigint AS gen WHERE false")
NEWS = frozenset(
    {"processed", "delivered", "deferred", "bounce", "dropped", "spamreport", "unsubscribe", "group_unsubscribe"}
)
"""The events that say something about an address or a mail. Opens and clicks are none of our business."""
MOST_EVENTS = 5_000

log = get_logger()


async def receive(signed: Signed) -> str:
    """How many events were new. Raises BadRequest for what SendGrid did not send like this."""
    resources, headers = signed.resources, signed.headers
    try:
        verify(resources.settings, headers.get(SIGNATURE_HEADER), headers.get(TIMESTAMP_HEADER), signed.body)
        messages = read(signed.body)
    except (SignatureRefused, ValueError) as refused:
        metrics.webhooks.labels("refused").inc()
        log.warning("mail events refused", why=str(refused))
        # Only failures are counted: SendGrid, which signs, is never slowed down by whoever shares its address.
        await spend(resources, UNSIGNED, subject=signed.caller.address)
        raise BadRequest(
            "These are no events from SendGrid, or they were altered on the way.",
            mend="Check the webhook's public key (SENDGRID_WEBHOOK_KEYS), and that nothing on the way rewrites bodies.",
        ) from refused
    async with resources.get(AcknowledgingPool).connection() as connection:
        with overload_is_unavailable():
            new = await INBOX.receive_all(connection, messages)
    metrics.webhooks.labels("new").inc(new)
    metrics.webhooks.labels("known").inc(len(messages) - new)
    return f"{new} new"


def read(body: bytes) -> list[Message]:
    """The events of one delivery; raises ValueError for anything else, even in a single one of them."""
    events = orjson.loads(body)
    if not isinstance(events, list) or len(events) > MOST_EVENTS:
        raise ValueError("not a list of events")
    return [_message(event) for event in events]


def _message(event: Any) -> Message:
    """The address stays in the body, which goes as soon as the event is dealt with; at once where that is nothing."""
    if not isinstance(event, dict) or not all(_is_word(event.get(name)) for name in ("sg_event_id", "event")):
        raise ValueError("an event without a name or an id")
    state, reason = (State.PENDING, "") if event["event"] in NEWS else (State.IGNORED, "type")
    reference = event.get(REFERENCE)
    known = {name: event[name] for name in ("email", "timestamp", "type", "status", "reason") if name in event}
    subject = reference if _is_word(reference) else None
    return Message("", event["sg_event_id"], event["event"], subject, orjson.dumps(known), state, reason)


def _is_word(thing: Any) -> bool:
    """What the inbox can hold as a name; PostgreSQL stores neither NUL nor a lone surrogate."""
    return isinstance(thing, str) and 0 < len(thing) <= 128 and thing.isprintable()
