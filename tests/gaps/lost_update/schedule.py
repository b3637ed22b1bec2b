"""Play one run: Stripe changes, events come, handlers take turns, and some die, in an order that somebody else draws.

A schedule is a list of turns. One that is not possible at its moment is passed over, and after the last one everybody
goes on until all is quiet, the newest first: a handler that was left behind stays behind. So every list is a schedule,
and a shorter one is a simpler story, which is how Hypothesis shrinks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from string import ascii_uppercase
from typing import Literal, NamedTuple

from hypothesis import strategies as st

from tests.gaps.lost_update.model import COMES_TO_REST, NO_CHANGE_IS_LOST, Event, Steps, Until, World
from tests.gaps.lost_update.ours import Strategy

WORKERS = 2
CHANGES_AT_MOST = 4
FAULTS_AT_MOST = 4
STEPS_AT_MOST = 200


class Turn(NamedTuple):
    """What comes next, and to which of the actors, changes or events it happens."""

    kind: Literal["go on", "change", "second passes", "lease expires", "same event", "second event", "death"]
    which: int = 0


TURNS = (
    *(Turn("go on", which) for which in range(5)),
    *(Turn("change", which) for which in range(4)),
    *(Turn("go on", which) for which in range(5)),
    Turn("second passes"),
    Turn("lease expires"),
    Turn("lease expires"),
    *(Turn("same event", which) for which in range(2)),
    *(Turn("second event", which) for which in range(2)),
    *(Turn("death", which) for which in range(2)),
)


@dataclass(eq=False)
class Actor:
    """A handler or a worker on its way; `again` begins its work anew, should it die."""

    name: str
    again: Callable[[], Steps]
    steps: Steps
    ready: Callable[[], bool] = lambda: True
    ended: bool = False


class Run:
    """One history under one strategy; `play` returns the world as it is when all is quiet."""

    def __init__(self, strategy: Strategy) -> None:
        self.strategy, self.world, self.faults = strategy, World(), 0
        self.actors: list[Actor] = []
        self.letters = iter(ascii_uppercase)
        if strategy.work:
            for number in range(WORKERS):
                self._enter(f"Worker {number + 1}", partial(strategy.work, self.world))

    def play(self, schedule: Sequence[Turn]) -> World:
        world = self.world
        for turn in schedule:
            self._take(turn)
        while len(world.steps) < STEPS_AT_MOST and (
            any(self._go_on(actor) for actor in reversed(self.actors)) or self._lease_expires()
        ):
            pass
        if lost := world.lost():
            world.broken[NO_CHANGE_IS_LOST] = f"the {' and the '.join(lost)} is lost"
        if len(world.steps) == STEPS_AT_MOST or not all(
            actor.ended for actor in self.actors if actor.name.startswith("Handler")
        ):
            world.broken[COMES_TO_REST] = "somebody is still at it, or waits for ever"
        world.broken |= self.strategy.promises(world)
        return world

    def _take(self, turn: Turn) -> None:
        if turn.kind == "go on" and turn.which < len(self.actors):
            self._go_on(self.actors[turn.which])
        elif turn.kind == "change":
            self._change(turn.which)
        elif turn.kind == "second passes":
            self.world.stripe.second += 1
        elif self.faults < FAULTS_AT_MOST:
            self.faults += self._fault(turn)

    def _fault(self, turn: Turn) -> bool:
        """Did it happen?"""
        if turn.kind == "lease expires":
            return self._lease_expires()
        if turn.which >= len(self.actors if turn.kind == "death" else self.world.stripe.events):
            return False
        if turn.kind == "death":
            return self._die(self.actors[turn.which])
        event = self.world.stripe.events[turn.which]
        if turn.kind == "same event":
            self.world.steps.append(f"Stripe sends its event about the {event.name} again")
            self._handle(event)
        else:
            self.world.steps.append(f"Stripe makes a second event about the {event.name}")
            self._handle(replace(event, id=f"{event.id}_twin"))
        return True

    def _go_on(self, actor: Actor) -> bool:
        """Let an actor take a step, if it can; one that finds it must wait takes none."""
        if actor.ended or not actor.ready():
            return False
        try:
            while isinstance(said := next(actor.steps), Until):
                actor.ready = said.ready
                if not said.ready():
                    return False
            actor.ready = lambda: True
        except StopIteration as end:
            said, actor.ended = end.value, True
        self.world.steps.append(f"{actor.name} {said}")
        return True

    def _change(self, which: int) -> None:
        stripe = self.world.stripe
        if len(stripe.events) < CHANGES_AT_MOST and which < len(possible := stripe.possible()):
            event = stripe.change(possible[which])
            self.world.steps.append(f"{possible[which].sentence}. Stripe has {event.payload} and sends an event")
            self._handle(event)

    def _handle(self, event: Event) -> None:
        self._enter(f"Handler {next(self.letters)} ({event.name})", partial(self.strategy.handle, self.world, event))

    def _enter(self, name: str, again: Callable[[], Steps]) -> None:
        self.actors.append(Actor(name, again, again()))

    def _die(self, actor: Actor) -> bool:
        """A process is killed: its transaction is undone. Stripe, who got no 200, or the supervisor begins anew."""
        if actor.ended:
            return False
        actor.steps.close()
        actor.ended = True
        self.world.steps.append(f"{actor.name} is killed and begins anew")
        self._enter(actor.name, actor.again)
        return True

    def _lease_expires(self) -> bool:
        if self.world.row.lease is None or not self.strategy.leases_expire:
            return False
        self.world.row.lease = None
        self.world.steps.append("Time passes, the lease expires")
        return True


def worlds(strategy: Strategy) -> st.SearchStrategy[World]:
    """The end of any run that this strategy can have."""
    some = st.lists(st.sampled_from(TURNS), max_size=12)
    return st.builds(lambda *parts: Run(strategy).play([turn for part in parts for turn in part]), some, some, some)


def dealt(seed: int) -> list[Turn]:
    """A schedule out of one number: no story, as it does not shrink, but sooner in trouble than one drawn by turns.

    Each strategy that fails does so within a hundred of these; drawn turn by turn, Hypothesis needs up to 700.
    """
    dice = Random(seed)
    return dice.choices(TURNS, k=dice.randrange(40))
