"""The European Central Bank's daily reference rates, as Frankfurter serves them (https://frankfurter.dev/v1/).

One rate per working day, published around 16:00 in Frankfurt. A range reaches back to the nearest day that has rates,
so that an answer is never empty on a weekend; an unknown currency is 404, or merely left out when others are known.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time

from service.core.regions import everywhere
from service.integrations.http import HttpClient, PeerFailed
from service.integrations.sources.base import DEADLINE_SECONDS, Ask, NotThere, Pulled, number, refuse_failure

REACH = everywhere("the system that the customer asked us to read, for what it knows")

NAME = "Frankfurter"
PUBLISHED = time(14, tzinfo=UTC)
"""16:00 in summer, 15:00 in winter: never later than the true moment, so that no reading lies in the future."""


async def pull(http: HttpClient, address: str, ask: Ask) -> Pulled:
    """Every day's rate since `ask.since`."""
    base, quotes = ask.config["base"], ask.config["quotes"]
    url = f"{address}/v1/{ask.since.isoformat()}..?base={base}&symbols={','.join(quotes)}"
    answer = await http.send("GET", url, deadline=DEADLINE_SECONDS)
    refuse_failure(NAME, answer, ask.now)
    if answer.status in (404, 422):
        raise NotThere(f"The European Central Bank has no rates from {base} to {', '.join(quotes)}.")
    if answer.status != 200:
        raise PeerFailed(f"it answered {answer.status}")
    body = answer.json_object()
    days = body.get("rates")
    if (
        body.get("base") != base
        or not isinstance(days, dict)
        or not all(isinstance(day, dict) for day in days.values())
    ):
        raise PeerFailed("its answer is not what was asked for")
    points = {
        quote: [(_moment(day), number(rates[quote])) for day, rates in sorted(days.items()) if quote in rates]
        for quote in quotes
    }
    if unknown := [quote for quote in quotes if not points[quote]]:
        raise NotThere(f"The European Central Bank has no rates from {base} to {', '.join(unknown)}.")
    return Pulled(points)


def _moment(day: str) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(day), PUBLISHED)
    except ValueError as error:
        raise PeerFailed("its answer names a day that is none") from error
