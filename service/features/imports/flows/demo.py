"""The import of the demo organization."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from service.core import clock
from service.core.database import UnitOfWork
from service.features.imports.flows.layout import Layout
from service.features.imports.flows.parse import parse
from service.features.imports.flows.store import append, read
from service.features.imports.flows.verdicts import as_lines
from service.features.imports.models import DecimalMark, Import, ImportVerdict, Mode, State
from service.features.indicators.flows.demo import DAYS
from service.features.indicators.models import Indicator


async def plant_import(work: UnitOfWork) -> None:
    """Two days of orders from before the hourly ones, out of a file with two mistakes."""
    indicator_id = (await work.session.scalars(select(Indicator.id).where(Indicator.name == "Orders"))).one()
    start = clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(days=DAYS + 2)
    lines = [f"{(start + timedelta(hours=hour)).isoformat()},{60 + hour * 7 % 23}" for hour in range(48)]
    lines[9], lines[30] = lines[9].partition(",")[0] + ",n/a", f"{start:%d.%m.%Y},71"
    found = parse([line.encode() for line in lines], 2, Layout(",", ("time", "value")), None, DecimalMark.POINT)
    rows, verdicts = await read(work, found, indicator_id)
    await append(work, rows, verdicts)
    told = Import(
        name="orders-before-launch.csv", size=len("\n".join(lines)), position=len("\n".join(lines)), mode=Mode.GOOD,
        zone="UTC", decimal=DecimalMark.POINT, indicator_id=indicator_id, state=State.DONE, rows=48, added=46,
        refused=2, finished_at=clock.now(),
    )  # fmt: skip
    work.session.add(told)
    await work.session.flush()
    work.session.add(ImportVerdict(import_id=told.id, number=2, refused=2, report=as_lines(verdicts)))
