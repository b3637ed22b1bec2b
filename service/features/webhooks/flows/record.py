"""Writing the messages about a change into the outbox, in the transaction of the change itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson

from service.core import clock
from service.core.database import UnitOfWork
from service.core.ids import new_id
from service.core.statements import PreparedText
from service.features.webhooks.models import payload_of

# One statement in the transaction of the change. Whoever writes for an endpoint that wants order holds its row until
# the commit: without that, of two changes at once the one that commits first could get the higher number. Readings that
# come while a message about the same indicator still waits are added to that one.
RECORD = PreparedText("""
    WITH held AS MATERIALIZED (
        SELECT id FROM webhook_endpoints
        WHERE organization_id = :context_tenant AND ordered AND state <> 'disabled' AND deleted_at IS NULL
          AND CAST(:type AS text) = ANY(event_types)
        ORDER BY id FOR NO KEY UPDATE
    )
    INSERT INTO webhook_deliveries AS stored
        (organization_id, endpoint_id, event_id, type, payload, bundle, state, created_at, next_attempt_at)
    SELECT :context_tenant, coalesce(held.id, endpoint.id), CAST(:event_id AS uuid), CAST(:type AS text),
        CAST(:payload AS jsonb), CAST(:bundle AS text), 'waiting',
        CAST(:now AS timestamptz), CAST(:now AS timestamptz) + CAST(:delay AS interval)
    FROM webhook_endpoints AS endpoint LEFT JOIN held ON held.id = endpoint.id
    WHERE endpoint.organization_id = :context_tenant AND endpoint.state <> 'disabled' AND endpoint.deleted_at IS NULL
      AND CAST(:type AS text) = ANY(endpoint.event_types)
    ON CONFLICT (organization_id, endpoint_id, bundle) WHERE state = 'waiting' AND bundle IS NOT NULL
    DO UPDATE SET payload = jsonb_set(stored.payload, '{data,added}',
        to_jsonb((stored.payload #>> '{data,added}')::bigint + (excluded.payload #>> '{data,added}')::bigint))
    RETURNING stored.id
""")


async def record(
    work: UnitOfWork,
    event_type: str,
    data: dict[str, Any],
    *,
    bundle: str | None = None,
    delay: timedelta = timedelta(),
) -> None:
    """One message for each endpoint that wants it; all bear the same id."""
    await work.fetch(
        RECORD,
        type=event_type, event_id=new_id(), bundle=bundle, delay=delay, now=clock.now(),
        payload=orjson.dumps(payload_of(work.tenant, event_type, data)).decode(),
    )  # fmt: skip
