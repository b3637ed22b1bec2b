"""The floor: bare Starlette on asyncpg, the same SQL, the same bytes, and nothing else.

Statements come from the service (`SQL`), so that the two cannot drift apart.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from pwdlib.hashers.argon2 import Argon2Hasher
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from load.bench.tiles import tiles_html
from service.core import clock

SQL: dict[str, str] = orjson.loads(os.environ.get("BENCH_SQL", "{}"))
ARGUMENTS = {
    name: (orjson.loads(SQL[f"{name}:names"]), orjson.loads(SQL[f"{name}:constants"]))
    for name in SQL
    if ":" not in name
}
ORGANIZATION = UUID(os.environ.get("BENCH_ORGANIZATION", str(UUID(int=0))))
pool: asyncpg.Pool[Any]


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    global pool
    async with asyncpg.create_pool(os.environ["BENCH_FLOOR_URL"], min_size=10, max_size=10) as pool:
        yield


def answer(content: Any) -> Response:
    return Response(orjson.dumps(content, default=str), media_type="application/json")


async def fetch(sql: str, *arguments: Any) -> list[dict[str, Any]]:
    async with pool.acquire() as connection:
        return [dict(row) for row in await connection.fetch(sql, *arguments)]


async def poll_unchanged(_: Request) -> Response:
    await fetch(SQL["version"], ORGANIZATION)
    return Response(status_code=304)


async def poll_changed(_: Request) -> Response:
    [version] = await fetch(SQL["version"], ORGANIZATION)
    return HTMLResponse(tiles_html(await _board(), version["count"], "x" * 40))


async def dashboard(_: Request) -> Response:
    return answer(await _board())


async def _board() -> dict[str, Any]:
    now = clock.now()
    rows = await fetch(
        SQL["tiles"], *_order("tiles", recent=now - timedelta(hours=48), since=now - timedelta(hours=96))
    )
    return {"as_of": now, "refresh_seconds": 30, "tiles": rows}


async def indicators(_: Request) -> Response:
    rows = await fetch(SQL["list"], *_order("list", limit=51))
    return answer({"items": rows[:50], "next_cursor": "x" * 120, "has_more": True})


async def readings(request: Request) -> Response:
    indicator = UUID(request.path_params["indicator"])
    await fetch(SQL["one"], *_order("one", id=indicator))
    rows = await fetch(SQL["readings"], *_order("readings", indicator_id=indicator, reach=timedelta(days=90), limit=51))
    return answer({"items": rows[:50], "next_cursor": "x" * 120, "has_more": True, "notice": None})


async def aggregates(request: Request) -> Response:
    indicator = UUID(request.path_params["indicator"])
    since, until = (datetime.fromisoformat(request.query_params[name]) for name in ("since", "until"))
    await fetch(SQL["one"], *_order("one", id=indicator))
    rows = await fetch(SQL["buckets"], *_order("buckets", indicator_id=indicator, since=since, until=until))
    return answer({"step": "day", "buckets": rows, "notice": None})


async def update(request: Request) -> Response:
    indicator, given = UUID(request.path_params["indicator"]), orjson.loads(await request.body())
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(
            "UPDATE indicators SET description = $3, changed_at = now() WHERE organization_id = $1 AND id = $2"
            " RETURNING id, name, description, unit, created_at, changed_at, archived_at, latest_value, latest_at",
            ORGANIZATION, indicator, given["description"],
        )  # fmt: skip
    return answer(dict(row))


async def login(request: Request) -> Response:
    form = await request.form()
    rows = await fetch("SELECT id, password_hash FROM users WHERE email = $1", form["email"])
    hasher = Argon2Hasher(time_cost=2, memory_cost=19_456, parallelism=1)
    right = await asyncio.to_thread(hasher.verify, str(form["password"]), rows[0]["password_hash"])
    return Response(status_code=303 if right else 401, headers={"location": "/dashboard"})


def _order(name: str, **values: Any) -> list[Any]:
    """Arguments in the order of the statement's parameters, as the service binds them."""
    known = {**ARGUMENTS[name][1], **values}
    return [known.get(parameter, ORGANIZATION) for parameter in ARGUMENTS[name][0]]


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/poll", poll_unchanged),
        Route("/changed", poll_changed),
        Route("/dashboard", dashboard),
        Route("/indicators", indicators),
        Route("/indicators/{indicator}/readings", readings),
        Route("/indicators/{indicator}/aggregates", aggregates),
        Route("/indicators/{indicator}", update, methods=["PATCH"]),
        Route("/login", login, methods=["POST"]),
    ],
)
