"""What the tests of the staff's pages on billing share: posting with a reason, messages as saved, the log's lines."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import orjson

from service.core import clock
from service.core.ids import new_id
from tests.support.client import HIDDEN, Client
from tests.support.factories import Person
from tests.support.stripe import Subscriber

HOME = "/staff/billing"


async def act(client: Client, path: str, **fields: str) -> httpx.Response:
    return await client.post(path, csrf=client.csrf, **{"reason": "A test of ours", **fields})


async def page_of(customer: Subscriber) -> str:
    return f"{HOME}/customers/{(await customer.row())['id']}"


async def intent_on(client: Client, path: str) -> str:
    return str(dict(HIDDEN.findall(await client.page(path)))["intent"])


async def message(superuser: asyncpg.Connection[Any], **columns: Any) -> int:
    """A message as the webhook saves it."""
    values = {
        "source": "stripe", "realm": "test", "external_id": f"evt_{new_id().hex}", "type": "invoice.paid",
        "subject": f"cus_{new_id().hex[-12:]}", "facts": {}, "body": b'{"id": "evt_1"}', "state": "unmatched",
        "reason": "", "attempts": 1, "next_attempt_at": clock.now() + timedelta(hours=1),
        "received_at": clock.now(), **columns,
    }  # fmt: skip
    values["facts"] = orjson.dumps(values["facts"]).decode()
    marks = ", ".join(f"${n + 1}" for n in range(len(values)))
    found = await superuser.fetchval(
        f"INSERT INTO inbox ({', '.join(values)}) VALUES ({marks}) RETURNING id", *values.values()
    )
    return int(found)


async def row_of(superuser: asyncpg.Connection[Any], message_id: int) -> asyncpg.Record:
    row = await superuser.fetchrow("SELECT * FROM inbox WHERE id = $1", message_id)
    assert row is not None
    return row


async def logged(superuser: asyncpg.Connection[Any], action: str, person: Person) -> asyncpg.Record:
    row = await superuser.fetchrow(
        "SELECT * FROM audit_log WHERE action = $1 AND actor_id = $2 ORDER BY id DESC LIMIT 1", action, person.id
    )
    assert row is not None, f"{action} is not in the log"
    return row
