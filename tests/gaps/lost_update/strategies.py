"""Ways to handle a webhook, as people name them: first those that lose a change, then those that do not.

Each function is one handler of one event. A `yield` is a moment in which others may act: the handler waits for the
database or for Stripe. What stands between two of them is one statement or one commit. None is careless: each has
passed its tests, because tests deliver one event after the other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.gaps.lost_update.model import Event, Steps, Until, World


def read_modify_write(world: World, event: Event) -> Steps:
    """Read the row, change the fields that the event is about, write the row back: the demo app."""
    copy = world.row.view
    yield f"reads our row: {copy}"
    changed: dict[str, Any] = event.changed
    copy = replace(copy, **changed)
    world.write(copy)
    return f"writes the whole row back: {copy}"


def payload_overwrite(world: World, event: Event) -> Steps:
    """Write what the event carries, once per event id, in one transaction. Events do not arrive in their order."""
    yield from ()  # one step: there is nothing to wait for
    if event.id in world.done:
        return "knows this event already"
    world.done.add(event.id)
    world.write(event.payload)
    return f"writes what its event carries: {event.payload}"


def created_guard(world: World, event: Event) -> Steps:
    """Write what the event carries if it was created later than the last one. `created` is in whole seconds."""
    yield from ()
    if event.created <= world.row.created:
        return f"drops its event: created in second {event.created}, no later than the one before"
    world.row.created = event.created
    world.write(event.payload)
    return f"writes what its event carries, created in second {event.created}: {event.payload}"


def fetch_then_lock(world: World, event: Event) -> Steps:
    """Ask Stripe for the present state, then lock the row and write. What was read may be old when the lock comes."""
    seen = world.stripe.now
    yield f"asks Stripe: {seen}"
    yield Until(lambda: not world.row.locked)
    if event.id in world.done:
        return "locks the row, knows this event already"
    world.done.add(event.id)
    world.write(seen)
    return f"locks the row and writes what it read before: {seen}"


def own_clock_stamp(world: World, _: Event) -> Steps:
    """Ask Stripe, note our time, write unless a later time stands there. The answer is older than its arrival."""
    seen = world.stripe.now
    yield f"asks Stripe: {seen}"
    stamp = world.clock
    yield f"has the answer, notes the time: {stamp}"
    if stamp <= world.row.stamp:
        return "finds a later time in the row and leaves it"
    world.row.stamp = stamp
    world.write(seen)
    return f"finds no later time in the row, writes what it read before: {seen}"


def serializable_with_fetch_before_begin(world: World, _: Event) -> Steps:
    """Ask Stripe, then write in a SERIALIZABLE transaction. The database guards what follows BEGIN, nothing before."""
    seen = world.stripe.now
    yield f"asks Stripe: {seen}"
    while True:
        version = world.row.version
        yield f"BEGIN; reads our row at version {version}"
        if world.row.version == version:
            world.write(seen)
            return f"writes what it read before and commits without a conflict: {seen}"
        yield "is refused by the database (40001): tries the transaction again"


def lease_without_compare_and_set(world: World, _: Event) -> Steps:
    """Hold a lock that expires (Redis, 30 s) while asking and writing. Whoever is slow writes without it."""
    row = world.row
    yield Until(lambda: row.lease is None)
    row.lease = mine = object()
    yield "takes the lease"
    seen = world.stripe.now
    yield f"asks Stripe: {seen}"
    world.write(seen)
    if row.lease is mine:
        row.lease = None
    return f"writes what it read: {seen}"


def row_lock_across_the_fetch(world: World, event: Event) -> Steps:
    """Lock the row, ask Stripe, write, commit. Right, but a slow Stripe holds a connection and the row."""
    yield Until(lambda: not world.row.locked)
    world.row.locked = True
    try:  # a session that dies lets go of its locks
        yield "locks our row"
        if event.id in world.done:
            return "knows this event already, lets go of the row"
        seen = world.stripe.now
        yield f"asks Stripe: {seen}"
        world.done.add(event.id)
        world.write(seen)
        return f"writes and commits: {seen}"
    finally:
        world.row.locked = False


def serializable_with_snapshot_before_fetch(world: World, _: Event) -> Steps:
    """BEGIN, read, ask Stripe, write: whoever began before the last write is refused. Right, with many calls."""
    while True:
        version = world.row.version
        yield f"BEGIN; reads our row at version {version}"
        seen = world.stripe.now
        yield f"asks Stripe: {seen}"
        if world.row.version == version:
            world.write(seen)
            return f"writes and commits: {seen}"
        yield "is refused by the database (40001): starts over"


def version_compare_and_set(world: World, _: Event) -> Steps:
    """Read the version, ask Stripe with no transaction open, write if the version stands. Right, with many calls."""
    while True:
        version = world.row.version
        yield f"reads version {version}"
        seen = world.stripe.now
        yield f"asks Stripe: {seen}"
        if world.row.version == version:
            world.write(seen)
            return f"finds version {version} unchanged and writes: {seen}"
        yield f"finds version {world.row.version} instead of {version}: starts over"
