"""A Stripe, a database row and what was promised about them: as small as the question allows.

Nothing here sleeps, opens a socket or draws a number. Time is the count of steps, and a run is the list of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

YEARS_END = "31 December"
NO_CHANGE_IS_LOST = "no change is lost"
NEVER_BACK = "the row shows only what Stripe showed, and never goes back"
EACH_EFFECT_ONCE = "each change has its mail, once"
EACH_EVENT_COUNTS_ONCE = "each event counts once"
COMES_TO_REST = "it comes to rest"


@dataclass(frozen=True)
class View:
    """What a subscription looks like at one moment: at Stripe, or in our row."""

    plan: str = "Team"
    period: int = 1
    cancel_at: str | None = None

    def __str__(self) -> str:
        ending = f", ends on {self.cancel_at}" if self.cancel_at else ""
        return f"{self.plan}, period {self.period}{ending}"


@dataclass(frozen=True)
class Change:
    """Something that a customer or the calendar does to the subscription."""

    name: str
    sentence: str
    apply: Callable[[View], View]


CHANGES = (
    Change("upgrade", "The customer upgrades to Business", lambda view: replace(view, plan="Business")),
    Change("renewal", "The cycle closes, a new period begins", lambda view: replace(view, period=view.period + 1)),
    Change("cancellation", "The customer cancels for the year's end", lambda view: replace(view, cancel_at=YEARS_END)),
    Change("downgrade", "The customer goes back to Team", lambda view: replace(view, plan="Team")),
    Change("change of mind", "The customer takes the cancellation back", lambda view: replace(view, cancel_at=None)),
)


@dataclass(frozen=True)
class Event:
    """A message about one change; `payload` is the object as it was then. Stripe may send two events for one change."""

    id: str
    fact: str
    name: str
    created: int  # whole seconds, as Stripe has them
    payload: View
    changed: dict[str, str | int | None]  # the fields that this change touched, with their new values


@dataclass
class Stripe:
    """The truth, with its past: `history[0]` is how it began, `history[n]` the object after the n-th change."""

    history: list[View] = field(default_factory=lambda: [View()])
    events: list[Event] = field(default_factory=list)
    second: int = 0

    @property
    def now(self) -> View:
        return self.history[-1]

    def possible(self) -> list[Change]:
        return [change for change in CHANGES if change.apply(self.now) != self.now]

    def change(self, change: Change) -> Event:
        before, after = self.now, change.apply(self.now)
        self.history.append(after)
        changed = {name: value for name, value in asdict(after).items() if getattr(before, name) != value}
        number = len(self.history) - 1
        self.events.append(Event(f"evt_{number}", f"fact_{number}", change.name, self.second, after, changed))
        return self.events[-1]


class Received(NamedTuple):
    """One row of the inbox: the event, and the mark that its arrival left on the customer."""

    event: Event
    mark: int


@dataclass
class Row:
    """Our row about the customer, with the columns of every strategy; each uses a few of them."""

    view: View = View()
    version: int = 0  # one more with every write
    created: int = -1  # `created` of the event written last
    stamp: int = -1  # our clock at the fetch written last
    dirty: int = 0  # marks left
    synced: int = 0  # marks answered
    locked: bool = False  # a row lock: gone with the session that holds it
    lease: object | None = None  # a lease: stays when its holder dies, until it expires


@dataclass
class World:
    """Everything that a run touches, the steps that happened, and the promises that were broken on the way."""

    stripe: Stripe = field(default_factory=Stripe)
    row: Row = field(default_factory=Row)
    inbox: list[Received] = field(default_factory=list)
    done: set[str] = field(default_factory=set)  # ids of the events that were dealt with
    mails: list[str] = field(default_factory=list)  # the fact that each mail tells about
    steps: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)  # promise -> what happened instead
    shown: int = 0  # the earliest state of Stripe's history that our row can be showing

    @property
    def clock(self) -> int:
        """Our own clock: never wrong, never twice the same. Even this one does not help."""
        return len(self.steps)

    def write(self, view: View) -> None:
        """Commit a new view of the subscription, and notice when it is none that Stripe had, or an older one."""
        before, self.row.view = self.row.view, view
        self.row.version += 1
        known = [index for index, past in enumerate(self.stripe.history) if index >= self.shown and past == view]
        if known:
            self.shown = known[0]
        else:
            self.broken.setdefault(NEVER_BACK, f"the row went from {before} to {view}")

    def lost(self) -> list[str]:
        """The names of the changes that our row does not show."""
        ours, theirs = asdict(self.row.view), asdict(self.stripe.now)
        missing = [part for part in ours if ours[part] != theirs[part]]
        last = {part: event.name for event in self.stripe.events for part in event.changed}
        return [last[part] for part in missing]


class Until(NamedTuple):
    """Yielded by a handler that must wait, for a lock for instance."""

    ready: Callable[[], bool]


# A handler says after each step what it did, and returns what it did last. Between two steps others may act.
Steps = Generator[str | Until, None, str]
