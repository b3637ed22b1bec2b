"""Find the shortest run in which a promise is broken, and tell it so that people can read it aloud."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from inspect import getdoc
from random import Random
from typing import NamedTuple

from hypothesis import Phase, find, settings
from hypothesis.errors import NoSuchExample

from tests.gaps.lost_update import strategies
from tests.gaps.lost_update.model import (
    EACH_EFFECT_ONCE,
    EACH_EVENT_COUNTS_ONCE,
    NEVER_BACK,
    NO_CHANGE_IS_LOST,
    World,
)
from tests.gaps.lost_update.ours import Part, Strategy, dirty_mark_lease_compare_and_set
from tests.gaps.lost_update.schedule import worlds

RUNS = 1_000  # each of the strategies that fail falls within a few hundred
SHORT, SEARCHES = 14, 3  # steps; shrinking may end beside the shortest story, then it is worth another search

WRONG = (
    strategies.read_modify_write,
    strategies.payload_overwrite,
    strategies.created_guard,
    strategies.fetch_then_lock,
    strategies.own_clock_stamp,
    strategies.serializable_with_fetch_before_begin,
    strategies.lease_without_compare_and_set,
)
RIGHT = (
    strategies.row_lock_across_the_fetch,
    strategies.serializable_with_snapshot_before_fetch,
    strategies.version_compare_and_set,
)
OURS = dirty_mark_lease_compare_and_set
HEADLINE = "upgrade"  # the change that the stories of the wrong strategies lose


class Removal(NamedTuple):
    """What is no longer true of ours without a part, and why."""

    promise: str
    because: str


PARTS: dict[Part, Removal] = {
    "compare and set": Removal(
        NEVER_BACK,
        "A worker that was paused writes over a newer state. Its old mark makes the customer dirty again and heals it; "
        "until then somebody who has paid is back on the old plan.",
    ),
    "mark": Removal(
        NO_CHANGE_IS_LOST,
        "If a worker at it were reason enough to leave no mark, nobody would ask for what changes after its question.",
    ),
    "count of marks": Removal(
        NO_CHANGE_IS_LOST,
        "A flag that the writer clears takes with it the mark of an event that came after the question.",
    ),
    "lease expiry": Removal(NO_CHANGE_IS_LOST, "A lock that outlives its holder keeps everybody waiting for ever."),
    "writing of nulls": Removal(NO_CHANGE_IS_LOST, "Whoever writes only what is set can take nothing back."),
    "event dedupe": Removal(
        EACH_EVENT_COUNTS_ONCE,
        "An event that comes twice marks twice. The row does not mind, but each repeat costs a call to Stripe.",
    ),
    "effect key": Removal(
        EACH_EFFECT_ONCE,
        "Stripe may make two events for one change. Their ids differ; only a key that names the fact can tell.",
    ),
}


@cache
def counterexample(strategy: Strategy, promise: str = "", lost: str = "", runs: int = 10 * RUNS) -> World | None:
    """The simplest run that breaks this promise (or any) and loses what is named; None after so many runs."""

    def tells(world: World) -> bool:
        return lost in world.broken[promise] if promise in world.broken else bool(world.broken) and not promise

    # Fixed seeds and no database of examples: the chapter in docs/ shows these very stories.
    quiet = settings(max_examples=runs, database=None, deadline=None, phases=(Phase.generate, Phase.shrink))
    found: list[World] = []
    with suppress(NoSuchExample):
        while len(found) < SEARCHES and all(len(world.steps) > SHORT for world in found):
            found.append(find(worlds(strategy), tells, settings=quiet, random=Random(1 + len(found))))
    return min(found, key=lambda world: len(world.steps), default=None)


def tell(world: World, promise: str) -> str:
    """The steps, numbered, and what came of them."""
    steps = [f"{number}. {step}." for number, step in enumerate(world.steps, 1)]
    return "\n".join([*steps, "", f"**So {world.broken[promise]}.** {_ending(world)}"])


def _ending(world: World) -> str:
    if world.row.view == world.stripe.now:
        return f"In the end both have {world.stripe.now}."
    return f"Stripe has {world.stripe.now}; our row has {world.row.view}."


def book() -> str:
    """Every counterexample as a story: the popular strategies, then ours with one part taken out at a time."""
    told = ["### Seven strategies that lose a change"]
    for handle in WRONG:
        world = counterexample(Strategy(handle), NO_CHANGE_IS_LOST, HEADLINE)
        assert world, f"{handle.__name__} ought to lose a change"
        told += [f"#### `{handle.__name__}`", str(getdoc(handle)), tell(world, NO_CHANGE_IS_LOST)]
    told.append("### Ours, with one part taken out")
    for part, (promise, because) in PARTS.items():
        world = counterexample(OURS(part), promise)
        assert world, f"without its {part} ours ought to fail"
        told += [f"#### Without the {part}", because, tell(world, promise)]
    return "\n\n".join(told) + "\n"
