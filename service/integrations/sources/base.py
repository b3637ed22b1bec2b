"""What an adapter is asked and answers. The text of each failure is the sentence that the customer reads: it names what
is wrong and never quotes what the other side wrote, which might be anything."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from service.core.regions import everywhere
from service.integrations.http import Answer, HttpClient, PeerFailed

REACH = everywhere("the system that the customer asked us to read, for what it knows")

DEADLINE_SECONDS = 10.0
SHORTEST_REST, USUAL_REST, LONGEST_REST = timedelta(seconds=30), timedelta(minutes=10), timedelta(days=1)
"""How long "too many" holds when nothing or nonsense is said about that: no header may silence a source for a year."""
LARGEST = 1e15

Points = list[tuple[datetime, float]]


@dataclass(frozen=True, slots=True)
class Ask:
    """What is wanted of whom. `since` is the newest day that is known already; `first` when nothing is."""

    config: Mapping[str, Any]
    since: date
    now: datetime
    key: str = field(default="", repr=False)
    etag: str = ""
    first: bool = True


@dataclass(frozen=True, slots=True)
class Pulled:
    """Values by series. `unchanged` means that the other side said so itself: the last values are those of now."""

    points: Mapping[str, Points]
    etag: str = ""
    unchanged: bool = False
    rest_until: datetime | None = None
    """The limit is used up: do not ask before."""


class SourceFailed(Exception):
    """No values; why, in a sentence for the customer."""


class Away(SourceFailed):
    """The other side gave no usable answer: ask again, a little later each time."""

    def __init__(self, sentence: str, retry_after: int = 0) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class Limited(SourceFailed):
    """Asked too often."""

    def __init__(self, sentence: str, until: datetime) -> None:
        super().__init__(sentence)
        self.until = until


class WrongKey(SourceFailed):
    """The credentials are refused; asking again would only look like guessing."""


class NotThere(SourceFailed):
    """What is asked for does not exist there, or not for us."""


Pull = Callable[[HttpClient, str, Ask], Awaitable[Pulled]]


def refuse_failure(name: str, answer: Answer, now: datetime) -> None:
    """Raise for what any HTTP API may answer; the adapter judges the rest."""
    if answer.status == 429:
        raise Limited(f"{name} says that it was asked too often.", rests_until(answer, now))
    if answer.status >= 500:
        raise Away(f"{name} answered with an error of its own ({answer.status}).")


def rests_until(answer: Answer, now: datetime) -> datetime:
    """When we may ask again: Retry-After (RFC 9110, 10.2.3), else x-ratelimit-reset (seconds since the epoch)."""
    said, reset = answer.headers.get("retry-after", ""), answer.headers.get("x-ratelimit-reset", "")
    wait = USUAL_REST
    if said.isascii() and said.isdigit():
        wait = timedelta(seconds=min(int(said[:9]), LONGEST_REST.total_seconds()))
    elif said:
        try:
            wait = parsedate_to_datetime(said) - now
        except (ValueError, TypeError):
            wait = USUAL_REST
    elif reset.isascii() and reset.isdigit():
        wait = timedelta(seconds=int(reset[:11]) - now.timestamp())
    return now + min(max(wait, SHORTEST_REST), LONGEST_REST)


def number(found: Any) -> float:
    """A finite number of sensible size; raises PeerFailed for what only looks like one."""
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise PeerFailed("a value is no number")
    if abs(found) > LARGEST:
        raise PeerFailed("a value is too large")
    return float(found)
