"""What the service does: mark, lease, fetch, compare and set; and the same with one part taken out.

The route that receives only stores the event and marks the customer. Workers look for marked customers, and any number
of marks is answered by one question to Stripe. The lease only saves double work; the version is what protects the row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial
from typing import Literal, NamedTuple

from tests.gaps.lost_update.model import (
    COMES_TO_REST,
    EACH_EFFECT_ONCE,
    EACH_EVENT_COUNTS_ONCE,
    Event,
    Received,
    Steps,
    Until,
    View,
    World,
)

Part = Literal[
    "compare and set", "mark", "count of marks", "event dedupe", "effect key", "lease expiry", "writing of nulls"
]


class Strategy(NamedTuple):
    """Who handles an event, who works in the background, and whether a lease ends by itself."""

    handle: Callable[[World, Event], Steps]
    work: Callable[[World], Steps] | None = None
    leases_expire: bool = True
    promises: Callable[[World], dict[str, str]] = lambda _: {}


def receive(world: World, event: Event, without: Part | None = None) -> Steps:
    """The webhook's one transaction: a row in the inbox and a mark on the customer, committed before the 200."""
    yield from ()
    row = world.row
    if any(known.event.id == event.id for known in world.inbox) and without != "event dedupe":
        return "knows this event already, answers 200"
    if without == "mark" and row.lease is not None:
        world.inbox.append(Received(event, row.dirty))
        return "stores the event, leaves no mark because a worker is at it, answers 200"
    row.dirty += 1
    world.inbox.append(Received(event, row.dirty))
    return f"stores the event, leaves mark {row.dirty}, answers 200"


def work(world: World, without: Part | None = None) -> Steps:
    """A worker, for ever: claim a marked customer, ask Stripe with no transaction open, apply if nobody else did."""
    row = world.row
    while True:
        yield Until(lambda: row.dirty > row.synced and row.lease is None)
        row.lease = mine = object()
        version, mark = row.version, row.dirty
        yield f"takes the lease, remembers version {version} and mark {mark}"
        seen = world.stripe.now
        yield f"asks Stripe: {seen}"
        if row.version == version or without == "compare and set":
            world.write(_over(row.view, seen) if without == "writing of nulls" else seen)
            row.synced = row.dirty if without == "count of marks" else mark
            _send_mails(world, mark, once=without != "effect key")
            row.lease = None
            yield f"writes {row.view}; all marks up to {row.synced} are answered"
        else:
            row.lease = None if row.lease is mine else row.lease
            yield f"finds version {row.version} instead of {version}, throws away what it read"


def _over(old: View, new: View) -> View:
    """The old view with whatever is set in the new one: how a cleared field stays as it was."""
    return View(**(asdict(old) | {name: value for name, value in asdict(new).items() if value is not None}))


def _send_mails(world: World, mark: int, *, once: bool) -> None:
    """Put a mail about each event up to the mark into the outbox, keyed by the fact: one fact may have two events."""
    for event, its_mark in world.inbox:
        if its_mark <= mark and event.id not in world.done:
            world.done.add(event.id)
            if event.fact not in world.mails or not once:
                world.mails.append(event.fact)


def _promises(world: World) -> dict[str, str]:
    """What must hold of inbox and outbox when all is quiet, beyond the row itself; broken ones with what happened."""
    broken = {}
    if world.row.dirty > world.row.synced:
        broken[COMES_TO_REST] = f"mark {world.row.dirty} is never answered"
    events = [received.event for received in world.inbox]
    for event in events:
        if (mails := world.mails.count(event.fact)) != 1:
            broken[EACH_EFFECT_ONCE] = f"the {event.name} has {mails} mails instead of one"
    if world.row.dirty != (distinct := len({event.id for event in events})):
        broken[EACH_EVENT_COUNTS_ONCE] = (
            f"there are {world.row.dirty} marks, although the number of events is {distinct}"
        )
    return broken


@cache
def dirty_mark_lease_compare_and_set(without: Part | None = None) -> Strategy:
    """Ours, whole or with one part taken out."""
    return Strategy(
        partial(receive, without=without), partial(work, without=without), without != "lease expiry", _promises
    )
