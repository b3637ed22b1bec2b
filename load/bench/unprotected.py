"""What people usually write: FastAPI, SQLAlchemy's ORM, a session per request, and no protection at all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, Form, Response
from fastapi.responses import HTMLResponse
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from load.bench.tiles import tiles_html
from service.catalog import load_tables
from service.core import clock
from service.core.database import split_tls
from service.features.accounts.models import User
from service.features.indicators.models import Indicator, Reading, ReadingHour
from service.features.indicators.schemas import (
    Aggregates,
    Bucket,
    Dashboard,
    IndicatorRead,
    IndicatorUpdate,
    ReadingRead,
    Tile,
)

load_tables()
ORGANIZATION = UUID(os.environ.get("BENCH_ORGANIZATION", str(UUID(int=0))))
engine = create_async_engine(split_tls(os.environ.get("BENCH_FLOOR_URL", "postgresql://localhost/x"))[0], pool_size=10)
sessions = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI()


async def session() -> AsyncIterator[AsyncSession]:
    async with sessions() as opened:
        yield opened
        await opened.commit()


Db = Annotated[AsyncSession, Depends(session)]


def live() -> Any:
    return select(Indicator).where(
        Indicator.organization_id == ORGANIZATION, Indicator.deleted_at.is_(None), Indicator.archived_at.is_(None)
    )


@app.get("/poll")
async def poll_unchanged(db: Db) -> Response:
    await db.execute(live().with_only_columns(func.count(), func.max(Indicator.changed_at)))
    return Response(status_code=304)


@app.get("/changed")
async def poll_changed(db: Db) -> HTMLResponse:
    version = await db.execute(live().with_only_columns(func.count(), func.max(Indicator.changed_at)))
    return HTMLResponse(tiles_html(await _board(db), version.one()[0], "x" * 40))


@app.get("/dashboard")
async def dashboard(db: Db) -> Dashboard:
    return await _board(db)


async def _board(db: AsyncSession) -> Dashboard:
    now = clock.now()
    indicators = (await db.scalars(live().order_by(Indicator.name, Indicator.id).limit(60))).all()
    hours = (
        await db.scalars(
            select(ReadingHour)
            .where(ReadingHour.organization_id == ORGANIZATION, ReadingHour.hour >= now - timedelta(hours=96))
            .order_by(ReadingHour.indicator_id, ReadingHour.hour)
        )
    ).all()
    trends: dict[UUID, list[float]] = {}
    for hour in hours:
        trends.setdefault(hour.indicator_id, []).append(hour.total / hour.count)
    tiles = [
        Tile(
            id=each.id, name=each.name, unit=each.unit, latest_value=each.latest_value, latest_at=each.latest_at,
            source_id=each.source_id, as_of=each.as_of, stale_because=each.stale_because, change=0.0,
            trend=trends.get(each.id, [])[-48:],
        )
        for each in indicators
    ]  # fmt: skip
    return Dashboard(as_of=now, refresh_seconds=30, tiles=tiles)


@app.get("/indicators")
async def indicators(db: Db, limit: int = 50) -> list[IndicatorRead]:
    rows = await db.scalars(live().order_by(Indicator.name, Indicator.id).limit(limit))
    return [IndicatorRead.model_validate(row) for row in rows]


@app.get("/indicators/{indicator_id}/readings")
async def readings(db: Db, indicator_id: UUID, limit: int = 50) -> list[ReadingRead]:
    await db.get_one(Indicator, indicator_id)
    rows = await db.scalars(
        select(Reading)
        .where(Reading.organization_id == ORGANIZATION, Reading.indicator_id == indicator_id)
        .order_by(Reading.at.desc())
        .limit(limit)
    )
    return [ReadingRead.model_validate(row) for row in rows]


@app.get("/indicators/{indicator_id}/aggregates")
async def aggregates(db: Db, indicator_id: UUID, since: datetime, until: datetime) -> Aggregates:
    await db.get_one(Indicator, indicator_id)
    day = func.date_trunc("day", ReadingHour.hour, "UTC")
    rows = await db.execute(
        select(
            day.label("at"),
            func.sum(ReadingHour.count).label("count"),
            (func.sum(ReadingHour.total) / func.sum(ReadingHour.count)).label("mean"),
            func.min(ReadingHour.low).label("low"),
            func.max(ReadingHour.high).label("high"),
        )
        .where(
            ReadingHour.organization_id == ORGANIZATION,
            ReadingHour.indicator_id == indicator_id,
            ReadingHour.hour >= since,
            ReadingHour.hour < until,
        )
        .group_by(day)
        .order_by(day)
    )
    return Aggregates(step="day", buckets=[Bucket.model_validate(row) for row in rows], notice=None)


@app.patch("/indicators/{indicator_id}")
async def update(db: Db, indicator_id: UUID, given: IndicatorUpdate) -> IndicatorRead:
    indicator = await db.get_one(Indicator, indicator_id)
    for name, value in given.model_dump(exclude_unset=True).items():
        setattr(indicator, name, value)
    await db.flush()
    return IndicatorRead.model_validate(indicator)


@app.post("/login")
async def login(db: Db, email: Annotated[str, Form()], password: Annotated[str, Form()]) -> Response:
    user = (await db.scalars(select(User).where(User.email == email))).one()
    hasher = Argon2Hasher(time_cost=2, memory_cost=19_456, parallelism=1)
    right = await asyncio.to_thread(hasher.verify, password, user.password_hash or "")
    return Response(status_code=303 if right else 401, headers={"location": "/dashboard"})
