"""Switches an operator turns while the service runs: pause changes, stop sign-ups, stop mail.

Protects from: the incident that grows while a deployment is built. How to use: nothing for READ_ONLY, every `@action`
asks; elsewhere `await switches.is_on(ctx, Switch.STOP_MAIL)`; pages show `await switches.current(ctx)` as a banner.
A staff action calls `turn`.

Limits: a process believes what it read for up to 2 s, so a switch works everywhere after 2 s. When the table cannot
be read the last known state holds; a process that has never read it treats every switch as ON: each of them stops
something, and stopping is the safe side.
"""

from __future__ import annotations

import time
from datetime import datetime
from enum import StrEnum
from uuid import UUID
from weakref import WeakKeyDictionary

from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock, telemetry
from service.core.context import Context, Resources
from service.core.database import LOST, Base
from service.core.errors import ReadOnly
from service.guardrails.personal_data import internal, pointer
from service.guardrails.retention import forever

FRESH_SECONDS = 2.0
STATES = "SELECT name, reason FROM switches WHERE is_on"


class Switch(StrEnum):
    READ_ONLY = "read_only"
    STOP_SIGN_UPS = "stop_sign_ups"
    STOP_MAIL = "stop_mail"


class SwitchState(Base):
    """One row per switch that was ever turned; a missing row is off."""

    __tablename__ = "switches"
    __retention__ = forever("one row per switch, overwritten")

    name: Mapped[str] = mapped_column(primary_key=True, info=internal())
    is_on: Mapped[bool] = mapped_column(info=internal())
    reason: Mapped[str] = mapped_column(info=internal())
    changed_at: Mapped[datetime] = mapped_column(info=internal())
    changed_by: Mapped[UUID | None] = mapped_column(info=pointer())


_known: WeakKeyDictionary[Resources, tuple[float, dict[str, str]]] = WeakKeyDictionary()
"""What each set of resources (one per process) read last, and when (monotonic seconds)."""


async def current(ctx: Context) -> dict[str, str]:
    """The switches that are on, with their reason for the reader; usually without asking the database."""
    read_at, states = _known.get(ctx.resources, (0.0, {str(switch): "" for switch in Switch}))
    now = time.monotonic()
    if now - read_at <= FRESH_SECONDS and ctx.resources in _known:
        return states
    began = time.time_ns()
    try:
        states = {row["name"]: row["reason"] for row in await ctx.work.raw.fetch(STATES)}
    except LOST:
        return states
    telemetry.record_statement(STATES, began)
    _known[ctx.resources] = (now, states)
    return states


async def is_on(ctx: Context, switch: Switch) -> bool:
    return switch in await current(ctx)


async def refuse_while_read_only(ctx: Context) -> None:
    """Raises ReadOnly while changes are paused."""
    if (reason := (await current(ctx)).get(Switch.READ_ONLY)) is not None:
        raise ReadOnly(f"Changes are paused. {reason}".strip(), retry_after=60)


async def turn(ctx: Context, switch: Switch, *, on: bool, reason: str) -> SwitchState:
    """Turn a switch; to be called from a staff action, which records who did it. `reason` is shown to users."""
    state = await ctx.db.get(SwitchState, switch.value) or SwitchState(name=switch.value)
    state.is_on, state.reason, state.changed_at, state.changed_by = on, reason, clock.now(), ctx.actor.id
    ctx.db.add(state)
    _known.pop(ctx.resources, None)
    return state
