"""Whose turn it is to sweep, and when again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from service.core.context import Resources
from service.core.database import Database
from service.features.billing.flows.sweeps import SWEEPS, Sweep, sweep_when_due

pytest_plugins = ("tests.guardrails.durability", "tests.features.billing.alone")
SOON, NEXT_DAY = timedelta(minutes=61), timedelta(hours=25)


async def test_what_no_reading_mends_does_not_have_everything_read_every_hour(
    alone: Resources,
    own_maintenance: Database,
    own_superuser: asyncpg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stranger's subscription to our plan is there until somebody ends it: the whole account was listed hourly."""
    told = [{"state_differs": 2, "stripe_only": 1}, {"stripe_only": 1}, {"stripe_only": 1}, {}]

    async def found(resources: Resources, maintenance: Database, cursor: int) -> tuple[int, dict[str, int]]:
        return 0, told.pop(0)

    async def is_due_after(pause: timedelta) -> bool:
        await own_superuser.execute("UPDATE billing_sweeps SET ran_at = ran_at - $1::interval", pause)
        return await sweep_when_due(alone, own_maintenance, "drill")

    monkeypatch.setitem(SWEEPS, "drill", Sweep(timedelta(days=1), found))
    assert await sweep_when_due(alone, own_maintenance, "drill")
    assert await is_due_after(SOON), "what was found is looked at again, so that the alert ends with its cause"
    assert await is_due_after(SOON), "something was mended: the rest may be, too"
    assert not await is_due_after(SOON), "the same as last time"
    assert await is_due_after(NEXT_DAY)
    assert told == []
