"""What SendGrid's events mean: where mail must not go from now on, and what became of a mail whose answer was lost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson

from service.core import clock
from service.core.context import Resources
from service.core.logging import get_logger
from service.features.notifications.schemas import SOURCE
from service.guardrails import mailing
from service.guardrails.inbox import State, opened
from service.guardrails.mailing import Cause, MailState

AT_ONCE = 100
MOST_ATTEMPTS = 5
STATES = {
    "processed": MailState.SENT,
    "deferred": MailState.SENT,
    "delivered": MailState.DELIVERED,
    "bounce": MailState.BOUNCED,
    "dropped": MailState.DROPPED,
}
CAUSES = {
    "spamreport": Cause.COMPLAINT,
    "unsubscribe": Cause.UNSUBSCRIBED,
    "group_unsubscribe": Cause.UNSUBSCRIBED,
}
DROPPED = {
    "Bounced Address": Cause.BOUNCE,
    "Invalid": Cause.BOUNCE,
    "Spam Reporting Address": Cause.COMPLAINT,
    "Unsubscribed Address": Cause.UNSUBSCRIBED,
}
"""Why SendGrid did not even try: its own list knows what we missed."""
DUE = """
    SELECT id, source, realm, external_id, type, subject, body, attempts FROM inbox
    WHERE source = $1 AND state IN ('pending', 'unmatched') AND next_attempt_at <= $2
    ORDER BY next_attempt_at LIMIT $3 FOR UPDATE SKIP LOCKED
"""
DONE = "UPDATE inbox SET state = 'processed', processed_at = $2 WHERE id = $1"
FAILED = """
    UPDATE inbox SET attempts = attempts + 1, last_error = $2, next_attempt_at = now() + interval '1 minute',
        state = CASE WHEN attempts + 1 >= $3 THEN $4 ELSE state END
    WHERE id = $1
"""

log = get_logger()


async def work_off(resources: Resources) -> int:
    """Deal with some of the events that wait; how many there were. Two workers never take the same."""
    async with resources.database.unit_of_work(tenant=None) as work:
        due = await work.raw.fetch(DUE, SOURCE, clock.now(), AT_ONCE)
        for row in due:
            try:
                # What PostgreSQL refuses would end the whole transaction, so each has a savepoint.
                await work.raw.execute("SAVEPOINT event")
                await _apply(work.raw, row["type"], row["subject"], orjson.loads(opened(row) or b"{}"))
            except (ValueError, TypeError, KeyError, OverflowError, asyncpg.DataError) as error:
                # One that nobody understands must not hold up the next; a person may look at it.
                await work.raw.execute("ROLLBACK TO SAVEPOINT event")
                log.error("mail event not understood", error=type(error).__name__, message_id=row["id"])
                await work.raw.execute(FAILED, row["id"], type(error).__name__, MOST_ATTEMPTS, State.DEAD)
            else:
                await work.raw.execute("RELEASE SAVEPOINT event")
                await work.raw.execute(DONE, row["id"], clock.now())
    return len(due)


async def _apply(raw: mailing.Connection, event: str, reference: str | None, told: dict[str, Any]) -> None:
    """In the transaction that marks the event as dealt with, so once."""
    if reference and event in STATES:
        await mailing.settle(raw, reference, STATES[event])
    # Without a body it was about somebody who has been erased since.
    cause = _cause(event, told) if told else None
    if cause is not None:
        seen_at = datetime.fromtimestamp(int(told["timestamp"]), UTC)
        code = str(told.get("status", ""))[:32]
        await mailing.suppress(raw, str(told["email"]), cause, code, seen_at)


def _cause(event: str, told: dict[str, Any]) -> Cause | None:
    if event == "bounce":
        # "blocked" is a full mailbox or a policy of the day: the address is good.
        return None if told.get("type") == "blocked" else Cause.BOUNCE
    return DROPPED.get(str(told.get("reason", ""))) if event == "dropped" else CAUSES.get(event)
