"""Which messages are sent next: fair between endpoints, in order where that is promised, never two workers one.

Looked up endpoint by endpoint, not message by message: a hundred thousand messages that wait for one dead server are
one step, and those behind them start at once. One round at a time over all workers, for milliseconds: that is what
makes "so many at once per endpoint" true.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from service.core.ids import new_id
from service.features.webhooks.models import SCHEDULE, open_secrets

PER_ENDPOINT = 2
"""Attempts at once for an endpoint that answers; one for what keeps order or is ill: it failed last, or was slow."""
PER_ORGANIZATION = 8
"""Attempts at once for all endpoints of one: twenty that take their time would have the room of everybody."""
LEASE = timedelta(seconds=60)
LOCK = 7_249_618_305
"""Held by whoever claims; ops/runbooks/WebhooksLate.md finds who keeps it."""
TURN = f"SELECT pg_try_advisory_xact_lock({LOCK})"
LOST = f"""
    UPDATE webhook_deliveries SET lease_token = NULL, lease_until = NULL,
        state = CASE WHEN tries > {len(SCHEDULE)} THEN 'failed' ELSE 'waiting' END,
        finished_at = CASE WHEN tries > {len(SCHEDULE)} THEN $1::timestamptz END
    WHERE state = 'sending' AND lease_until < $1
"""  # noqa: S608 - a constant
LINES = """
WITH RECURSIVE lines AS (
        (SELECT endpoint_id FROM webhook_deliveries WHERE state = 'waiting' ORDER BY endpoint_id LIMIT 1)
        UNION ALL
        SELECT following.endpoint_id FROM lines CROSS JOIN LATERAL (
            SELECT endpoint_id FROM webhook_deliveries
            WHERE state = 'waiting' AND endpoint_id > lines.endpoint_id ORDER BY endpoint_id LIMIT 1
        ) AS following
    )"""
"""The endpoints for which messages wait, one after another: a step each, however many messages."""
CLAIM = f"""
    {LINES}, busy AS MATERIALIZED (
        SELECT organization_id, count(*) AS sent FROM webhook_deliveries WHERE state = 'sending' GROUP BY 1
    ), open AS MATERIALIZED (
        SELECT endpoint.id, organization_id, ordered, failures > 0 OR slow AS ill,
            CASE WHEN ordered OR failures > 0 OR slow THEN 1 ELSE $6::int END - (
                SELECT count(*) FROM webhook_deliveries WHERE endpoint_id = endpoint.id AND state = 'sending'
            ) AS room
        FROM lines CROSS JOIN LATERAL (SELECT * FROM webhook_endpoints WHERE id = endpoint_id LIMIT 1) AS endpoint
        WHERE endpoint.state = 'active' AND deleted_at IS NULL AND (resume_at IS NULL OR resume_at <= $1)
          AND (SELECT deleted_at FROM organizations WHERE id = endpoint.organization_id) IS NULL
    ), due AS (
        SELECT found.id, organization_id, ill, found.next_attempt_at,
            row_number() OVER (PARTITION BY open.id ORDER BY found.next_attempt_at) AS place
        FROM open CROSS JOIN LATERAL (
            (SELECT id, next_attempt_at FROM webhook_deliveries
            WHERE endpoint_id = open.id AND state = 'waiting' AND next_attempt_at <= $1 AND NOT open.ordered
            ORDER BY next_attempt_at LIMIT greatest(open.room, 0))
            UNION ALL
            SELECT id, next_attempt_at FROM (
                SELECT id, next_attempt_at FROM webhook_deliveries
                WHERE endpoint_id = open.id AND state = 'waiting' ORDER BY seq LIMIT 1
            ) AS head WHERE open.ordered AND open.room > 0 AND next_attempt_at <= $1
        ) AS found
    ), shared AS (
        -- Those that answer at once go before those that do not, which may find no room anyway.
        SELECT due.*, coalesce(sent, 0)
            + row_number() OVER (PARTITION BY organization_id ORDER BY ill, place, next_attempt_at) AS share
        FROM due LEFT JOIN busy USING (organization_id)
    ), turns AS (
        SELECT id, ill, share, next_attempt_at, row_number() OVER (PARTITION BY ill ORDER BY next_attempt_at) AS turn
        FROM shared WHERE share <= $7
    ), chosen AS (
        -- A writer that is about to add to a message holds its row; it is not waited for.
        SELECT id FROM webhook_deliveries WHERE state = 'waiting' AND id IN (
            SELECT id FROM turns WHERE NOT ill OR turn <= $3 ORDER BY share, next_attempt_at LIMIT $2
        ) FOR UPDATE SKIP LOCKED
    )
    UPDATE webhook_deliveries AS taken SET state = 'sending', lease_token = $4, lease_until = $5, bundle = NULL,
        attempts = attempts + 1, tries = tries + 1
    FROM chosen, webhook_endpoints AS endpoint
    WHERE taken.id = chosen.id AND endpoint.id = taken.endpoint_id
    RETURNING taken.id, taken.organization_id, taken.endpoint_id, taken.event_id, taken.payload::text AS body,
        taken.attempts, taken.tries, taken.next_attempt_at AS due_at, lease_token, endpoint.url, endpoint.secret,
        endpoint.old_secret, endpoint.old_secret_until, endpoint.failures, endpoint.slow
"""  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class Claim:
    """A message to send now, and all that sending it takes."""

    id: UUID
    organization_id: UUID
    endpoint_id: UUID
    message_id: str
    url: str
    body: str
    secret: bytes
    old_secret: bytes | None
    old_secret_until: datetime | None
    attempts: int
    tries: int
    failures: int
    slow: bool
    due_at: datetime
    lease_token: UUID

    def keys(self, now: datetime) -> list[str]:
        """Raises BadSignature. Not while claiming: there, one secret that cannot be read ended everybody's round."""
        return open_secrets(self.endpoint_id, now, self.secret, self.old_secret, self.old_secret_until)


async def claim(raw: asyncpg.Connection[Any], now: datetime, *, room: int, room_for_ill: int) -> list[Claim]:
    """Lease what is due, `room` at most and `room_for_ill` of those whose endpoint is ill; in the caller's transaction,
    as the maintenance role. Nothing while another worker claims."""
    if not await raw.fetchval(TURN):
        return []
    await raw.execute(LOST, now)
    rows = await raw.fetch(CLAIM, now, room, room_for_ill, new_id(), now + LEASE, PER_ENDPOINT, PER_ORGANIZATION)
    return [_read(row) for row in rows]


def _read(row: asyncpg.Record) -> Claim:
    return Claim(
        id=row["id"], organization_id=row["organization_id"], endpoint_id=row["endpoint_id"],
        message_id=f"msg_{row['event_id'].hex}", url=row["url"], body=row["body"],
        secret=row["secret"], old_secret=row["old_secret"], old_secret_until=row["old_secret_until"],
        attempts=row["attempts"], tries=row["tries"],
        failures=row["failures"], slow=row["slow"], due_at=row["due_at"], lease_token=row["lease_token"],
    )  # fmt: skip
