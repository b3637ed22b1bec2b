"""The floor of the webhook: bare Starlette on asyncpg, the same check, the same statement, and nothing else."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from infra.sandbox.stripe.server import WEBHOOK_SECRET
from load.bench.deliveries import PATH
from service.core import clock
from service.features.billing.models.customer import INBOX

SECRET = WEBHOOK_SECRET.encode()
TOLERANCE = 300
pool: asyncpg.Pool[Any]


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    global pool
    size = int(os.environ["INBOX_POOL_SIZE"])
    async with asyncpg.create_pool(os.environ["BENCH_FLOOR_URL"], min_size=size, max_size=size) as pool:
        yield


async def webhook(request: Request) -> Response:
    body = await request.body()
    moment, _, sent = request.headers["stripe-signature"].removeprefix("t=").partition(",v1=")
    right = hmac.new(SECRET, b"%s.%s" % (moment.encode(), body), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(right, sent) or abs(time.time() - int(moment)) > TOLERANCE:
        return Response(status_code=400)
    event = orjson.loads(body)
    thing = event["data"]["object"]
    facts = {"kind": "snapshot", "via": "floor", "object_type": thing["object"], "object_id": thing["id"]}
    async with pool.acquire() as connection:
        try:
            rows = await connection.fetch(
                INBOX.sql, INBOX.source, "test", event["id"], thing["customer"], event["type"],
                orjson.dumps(facts).decode(), body, "unmatched", "", clock.now(),
            )  # fmt: skip
        except asyncpg.UniqueViolationError:
            rows = []
    return PlainTextResponse("new" if rows else "known")


app = Starlette(lifespan=lifespan, routes=[Route(PATH, webhook, methods=["POST"])])
