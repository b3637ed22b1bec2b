"""What is told about which action: the one list. Each line writes its messages in the action's own transaction.

A new line needs its `EventType` (schemas.py). `facts` are those the action has written down for its subscribers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from hashlib import md5
from typing import Any

from service.core.context import Context
from service.features.billing import actions as billing
from service.features.imports import actions as imports
from service.features.indicators import actions as indicators
from service.features.organizations import actions as organizations
from service.features.webhooks.flows.record import record
from service.features.webhooks.schemas import EventType
from service.guardrails.jobs import Event, within

TOGETHER = timedelta(seconds=5)
"""How long readings of the same indicators are gathered before they are told of."""


def indicator(event: Event) -> dict[str, Any]:
    return {"indicator_id": str(event.object_id)}


def membership(event: Event) -> dict[str, Any]:
    return {"membership_id": str(event.object_id)}


def readings(event: Event) -> dict[str, Any] | None:
    """None when all of them were there already. A batch or file for many indicators names twenty."""
    added = event.facts["added"]
    return {"indicator_ids": event.facts["indicators"], "added": added} if added else None


def correction(event: Event) -> dict[str, Any]:
    return {**indicator(event), "at": event.facts["at"]}


def plan(event: Event) -> dict[str, Any] | None:
    """None when the same plan holds for longer."""
    before, after = event.facts["from"], event.facts["to"]
    return {"from": before, "to": after} if before != after else None


@dataclass(frozen=True, slots=True)
class Feed:
    """`data` is what the message holds, or None when there is nothing to tell; `together` gathers by indicators."""

    action: Callable[..., Any]
    type: EventType
    data: Callable[[Event], dict[str, Any] | None]
    together: bool = False


FEEDS = (
    Feed(indicators.create_indicator, EventType.INDICATOR_CREATED, indicator),
    Feed(indicators.update_indicator, EventType.INDICATOR_UPDATED, indicator),
    Feed(indicators.archive_indicator, EventType.INDICATOR_ARCHIVED, indicator),
    Feed(indicators.unarchive_indicator, EventType.INDICATOR_UNARCHIVED, indicator),
    Feed(indicators.delete_indicator, EventType.INDICATOR_DELETED, indicator),
    Feed(indicators.restore_indicator, EventType.INDICATOR_RESTORED, indicator),
    Feed(indicators.append_reading, EventType.READINGS_ADDED, readings, together=True),
    Feed(indicators.append_batch, EventType.READINGS_ADDED, readings, together=True),
    Feed(indicators.append_mixed, EventType.READINGS_ADDED, readings, together=True),
    Feed(imports.finish_import, EventType.READINGS_ADDED, readings),
    Feed(indicators.correct_reading, EventType.READINGS_CORRECTED, correction),
    Feed(organizations.accept_invitation, EventType.MEMBER_JOINED, membership),
    Feed(organizations.leave_organization, EventType.MEMBER_LEFT, membership),
    Feed(organizations.remove_member, EventType.MEMBER_LEFT, membership),
    Feed(billing.set_entitlement, EventType.PLAN_CHANGED, plan),
)


async def tell(feed: Feed, ctx: Context, event: Event) -> None:
    data = feed.data(event)
    if data is None:
        return
    if feed.together:
        # Whoever adds readings holds their indicators, so two that meet in one bundle have taken turns before.
        name = md5("".join(data["indicator_ids"]).encode(), usedforsecurity=False).hexdigest()
        await record(ctx.work, feed.type, data, bundle=f"{feed.type}:{name}", delay=TOGETHER)
    else:
        await record(ctx.work, feed.type, data)


for feed in FEEDS:
    within(feed.action)(partial(tell, feed))
