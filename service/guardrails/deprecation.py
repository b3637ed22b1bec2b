"""A route that will go says so in every answer, long before it goes.

Protects from: the program that stops one morning, because nobody reads release notes. How to use, on a route of api.py:

    @deprecated(since=date(2027, 1, 31), sunset=date(2027, 7, 31), link="/changes#old-export")

Its answers, refusals too, carry `Deprecation` (RFC 9745), `Sunset` (RFC 8594) and a `Link` to what to use instead, and
OpenAPI marks it. Limits: the route goes on working after its sunset; deleting it is somebody's work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from email.utils import format_datetime
from typing import Any, TypeVar

from starlette.types import Scope

F = TypeVar("F", bound=Callable[..., Any])
MARK = "deprecation"


@dataclass(frozen=True, slots=True)
class Deprecation:
    """Days begin at midnight UTC. Raises ValueError for a sunset before the deprecation (RFC 9745, section 5)."""

    since: date
    sunset: date
    link: str

    def __post_init__(self) -> None:
        if self.sunset < self.since:
            raise ValueError("the sunset lies before the deprecation: programs would be told after the fact")

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        since, sunset = (datetime.combine(day, time(), UTC) for day in (self.since, self.sunset))
        return [
            (b"deprecation", b"@%d" % since.timestamp()),
            (b"sunset", format_datetime(sunset, usegmt=True).encode()),
            (b"link", f'<{self.link}>; rel="deprecation"'.encode()),
        ]


def deprecated(*, since: date, sunset: date, link: str) -> Callable[[F], F]:
    """Mark a route; `link` leads to what to use instead."""
    made = Deprecation(since, sunset, link)

    def decorate(endpoint: F) -> F:
        setattr(endpoint, MARK, made)
        return endpoint

    return decorate


def of(endpoint: Any) -> Deprecation | None:
    found: Deprecation | None = getattr(endpoint, MARK, None)
    return found


def headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """What the answer of this request's route says about its end; nothing where no end is near."""
    found = of(scope.get("endpoint"))
    return found.headers if found else []
