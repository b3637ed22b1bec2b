"""The door to the outside systems: their addresses, connections of their own, and a circuit breaker for each.

One breaker per outside system, not per source: all sources of one kind ask the same server, so what the first five
found out spares all the others the wait. A refusal (wrong key, no such repository) is an answer and counts for nothing,
so one customer's mistake closes the way for nobody. Connections are apart from those that log people in: a system that
hangs holds none of them.
"""

from __future__ import annotations

from datetime import datetime

from service.core.regions import everywhere
from service.core.settings import Settings
from service.guardrails.circuit_breaker import CircuitBreaker, CircuitOpen
from service.integrations.http import HttpClient, PeerFailed
from service.integrations.sources import github, plausible, rates
from service.integrations.sources.base import Ask, Away, Limited, Pull, Pulled

REACH = everywhere("the system that the customer asked us to read, for what it knows")

PULLS: dict[str, tuple[str, Pull]] = {
    "rates": (rates.NAME, rates.pull),
    "github": (github.NAME, github.pull),
    "plausible": (plausible.NAME, plausible.pull),
}
FAILURES, WITHIN_SECONDS, REST_SECONDS = 5, 60.0, 30.0


class Systems:
    """One per process; a resource."""

    def __init__(self, settings: Settings) -> None:
        self._http = HttpClient(settings)
        self._addresses = {kind: getattr(settings, f"{kind}_api_base").rstrip("/") for kind in PULLS}
        self._breakers = {
            kind: CircuitBreaker(
                f"source-{kind}", failures=FAILURES, within=WITHIN_SECONDS, rest=REST_SECONDS, counts=(Away,)
            )
            for kind in PULLS
        }
        self._rests: dict[tuple[str, str], datetime] = {}

    async def ask(self, kind: str, ask: Ask) -> Pulled:
        """What the system of this kind has; raises SourceFailed."""
        name, pull = PULLS[kind]
        # A limit is the key's, or without one our whole address's: one source that met it speaks for all of them.
        rest = self._rests.get((kind, ask.key))
        if rest is not None and rest > ask.now:
            raise Limited(_too_often(kind, name, ask), rest)
        try:
            found = await self._ask(kind, name, pull, ask)
        except Limited as error:
            self._note_rest(kind, ask, error.until)
            raise Limited(_too_often(kind, name, ask), error.until) from error
        self._note_rest(kind, ask, found.rest_until)
        return found

    def _note_rest(self, kind: str, ask: Ask, until: datetime | None) -> None:
        if until is not None:
            self._rests = {key: end for key, end in self._rests.items() if end > ask.now}
            self._rests[kind, ask.key] = until

    async def _ask(self, kind: str, name: str, pull: Pull, ask: Ask) -> Pulled:
        try:
            async with self._breakers[kind]:
                try:
                    return await pull(self._http, self._addresses[kind], ask)
                except PeerFailed as error:
                    raise Away(f"{name} gave no usable answer: {error}.") from error
        except CircuitOpen as error:
            raise Away(f"{name} has not answered several times in a row.", error.retry_after) from error

    async def aclose(self) -> None:
        await self._http.aclose()


def _too_often(kind: str, name: str, ask: Ask) -> str:
    shared = " All sources without a token share one limit: give this one a token of its own."
    return f"{name} says that it was asked too often.{shared if kind == 'github' and not ask.key else ''}"
