"""Hypothesis draws history, duplicates, deaths and order; seven popular strategies lose a change, four do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gaps.lost_update import chapter
from tests.gaps.lost_update.model import NO_CHANGE_IS_LOST, Event, Steps, World
from tests.gaps.lost_update.ours import Part, Strategy
from tests.gaps.lost_update.schedule import Run, Turn, dealt
from tests.gaps.lost_update.story import HEADLINE, OURS, PARTS, RIGHT, WRONG, book, counterexample

Handle = Callable[[World, Event], Steps]

SEEDS = 500  # per strategy that holds: five times as many as it takes any of the others to fall
# How the story of each ends, and in how many steps it is told.
ENDINGS = {
    "read_modify_write": (6, "writes the whole row back"),
    "payload_overwrite": (4, "writes what its event carries"),
    "created_guard": (4, "drops its event"),
    "fetch_then_lock": (6, "locks the row and writes what it read before"),
    "own_clock_stamp": (8, "finds no later time in the row, writes what it read before"),
    "serializable_with_fetch_before_begin": (8, "commits without a conflict"),
    "lease_without_compare_and_set": (9, "writes what it read"),
}
LENGTHS: dict[Part, int] = {
    "compare and set": 14,
    "mark": 7,
    "count of marks": 7,
    "lease expiry": 4,
    "writing of nulls": 10,
    "event dedupe": 7,
    "effect key": 7,
}


@pytest.mark.parametrize("handle", WRONG)
def test_a_popular_strategy_loses_the_upgrade_in_a_few_steps(handle: Handle) -> None:
    world = counterexample(Strategy(handle), NO_CHANGE_IS_LOST, HEADLINE)
    assert world is not None
    assert world.broken[NO_CHANGE_IS_LOST] == "the upgrade is lost"
    assert (world.stripe.now.plan, world.row.view.plan) == ("Business", "Team")
    steps, last = ENDINGS[handle.__name__]
    assert len(world.steps) <= steps
    assert last in world.steps[-1]
    assert sum("Stripe has" in step for step in world.steps) == 2  # a renewal and an upgrade: no more is needed


@pytest.mark.parametrize("handle", WRONG)
@given(changes=st.lists(st.integers(0, 3), max_size=4))
@settings(max_examples=30)
def test_and_passes_every_test_that_delivers_one_event_after_the_other(handle: Handle, changes: list[int]) -> None:
    """This is why nobody notices: each handler ends before the next change, as it does in a test written by hand."""
    to_its_end = [Turn("go on", handler) for handler in range(4)] * 3
    schedule: list[Turn] = []
    for change in changes:
        schedule += [Turn("second passes"), Turn("change", change), *to_its_end]
    assert Run(Strategy(handle)).play(schedule).broken == {}


@pytest.mark.parametrize(
    "strategy", [*map(Strategy, RIGHT), OURS()], ids=[*(right.__name__ for right in RIGHT), "ours"]
)
def test_a_safe_strategy_keeps_every_promise(strategy: Strategy) -> None:
    @given(seed=st.integers(0, 2**64 - 1))
    @settings(max_examples=SEEDS, database=None)
    def holds(seed: int) -> None:
        world = Run(strategy).play(dealt(seed))
        assert world.broken == {}, "\n".join(world.steps)

    holds()


@pytest.mark.parametrize("part", PARTS)
def test_ours_fails_without_its(part: Part) -> None:
    promise = PARTS[part].promise
    world = counterexample(OURS(part), promise)
    assert world is not None
    assert len(world.steps) <= LENGTHS[part]


def test_the_chapter_shows_these_very_stories() -> None:
    assert chapter.stories_shown() == book(), "run python -m tests.gaps.lost_update --write"
