"""The indicators of the demo: ninety days of believable hourly readings."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.core import clock
from service.core.database import UnitOfWork
from service.features.indicators.actions import APPEND
from service.features.indicators.models import Indicator

DAYS = 90


@dataclass(frozen=True, slots=True)
class Shape:
    """How a believable series behaves: level, growth over the period, daily and weekly swing, noise."""

    name: str
    unit: str
    about: str
    level: float
    growth: float = 0.0
    daily: float = 0.3
    weekend: float = 0.6
    noise: float = 0.05
    whole: bool = False


SHAPES = (
    Shape("Sign-ups", "people", "New accounts per hour", 42, 0.5, 0.7, 0.5, 0.15, True),
    Shape("Revenue", "EUR", "Paid invoices per hour", 1_850, 0.35, 0.6, 0.4, 0.12),
    Shape("Active users", "people", "Seen in the last hour", 5_400, 0.4, 0.5, 0.7, 0.04, True),
    Shape("Open tickets", "tickets", "Waiting for an answer", 38, -0.3, 0.2, 1.2, 0.1, True),
    Shape("First reply", "min", "Median time to a first answer", 24, -0.4, 0.3, 1.5, 0.12),
    Shape("Churn", "%", "Cancelled in the last 30 days", 2.4, -0.2, 0.0, 1.0, 0.03),
    Shape("API latency", "ms", "95th percentile", 182, 0.05, 0.25, 0.8, 0.09),
    Shape("Error rate", "%", "Answers with 5xx", 0.12, 0.0, 0.1, 0.9, 0.4),
    Shape("EUR/USD", "USD", "European Central Bank reference rate", 1.09, 0.02, 0.0, 1.0, 0.002),
    Shape("Conversion", "%", "Visitors who sign up", 3.1, 0.15, 0.15, 0.9, 0.06),
    Shape("Page views", "views", "All pages", 18_200, 0.3, 0.65, 0.6, 0.06, True),
    Shape("Trial starts", "trials", "Began a trial", 11, 0.25, 0.6, 0.5, 0.25, True),
    Shape("Orders", "orders", "Completed checkouts", 96, 0.2, 0.6, 1.3, 0.1, True),
    Shape("Basket value", "EUR", "Mean per order", 64, 0.08, 0.1, 1.1, 0.07),
    Shape("Stock level", "units", "Across all warehouses", 12_400, -0.35, 0.05, 1.0, 0.01, True),
    Shape("Returns", "parcels", "Arrived today", 7, 0.1, 0.4, 0.3, 0.3, True),
)


async def plant_indicators(work: UnitOfWork, many: int, number: int) -> None:
    """So many for the organization of that number, none quite like another's."""
    for index in range(many):
        await _indicator(work, SHAPES[(index + number * 5) % len(SHAPES)], seed=number * 100 + index)


async def _indicator(work: UnitOfWork, shape: Shape, seed: int) -> None:
    indicator = Indicator(name=shape.name, description=shape.about, unit=shape.unit)
    work.session.add(indicator)
    await work.session.flush()
    series = list(readings(shape, seed))
    await work.fetch(
        APPEND,
        indicators=[indicator.id] * len(series),
        ats=[at for at, _ in series],
        readings=[value for _, value in series],
        now=clock.now(),
    )


def readings(shape: Shape, seed: int) -> Iterator[tuple[datetime, float]]:
    """Hourly values up to the last full hour; the same seed gives the same course."""
    chance = random.Random(seed)  # noqa: S311 - demo data, not secrets
    end = clock.now().replace(minute=0, second=0, microsecond=0)
    hours, drift = DAYS * 24, 0.0
    for hour in range(hours):
        at = end - timedelta(hours=hours - hour - 1)
        drift = 0.98 * drift + chance.gauss(0, shape.noise / 3)
        day = 1 + shape.daily * math.sin((at.hour - 9) / 24 * 2 * math.pi)
        week = shape.weekend if at.weekday() >= 5 else 1.0
        value = (
            shape.level * (1 + shape.growth * hour / hours) * day * week * (1 + drift + chance.gauss(0, shape.noise))
        )
        yield at, float(round(max(0.0, value))) if shape.whole else round(max(0.0, value), 4)
