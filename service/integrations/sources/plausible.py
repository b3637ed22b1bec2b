"""Web traffic from Plausible's Stats API v2 (https://plausible.io/docs/stats-api): visitors and page views per day.

Days are those of the site's time zone, which the API does not tell; so a day counts once it is over everywhere, and a
finished day's numbers do not change any more. A day without visits has no row: `time_labels` says which days there are.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from service.core.regions import everywhere
from service.integrations.http import HttpClient, PeerFailed
from service.integrations.sources.base import (
    DEADLINE_SECONDS,
    Ask,
    NotThere,
    Points,
    Pulled,
    WrongKey,
    number,
    refuse_failure,
)

REACH = everywhere("the system that the customer asked us to read, for what it knows")

NAME = "Plausible"
SERIES = ("visitors", "pageviews")
LAST_ZONE = timedelta(hours=12)
"""UTC-12: when a day ends there, it has ended everywhere."""


async def pull(http: HttpClient, address: str, ask: Ask) -> Pulled:
    """Every finished day since `ask.since`."""
    site = ask.config["site"]
    last = (ask.now - LAST_ZONE).date() - timedelta(days=1)
    first = min(ask.since, last)
    query = {
        "site_id": site,
        "metrics": list(SERIES),
        "date_range": [first.isoformat(), last.isoformat()],
        "dimensions": ["time:day"],
        "include": {"time_labels": True},
    }
    headers = {"Authorization": f"Bearer {ask.key}"}
    answer = await http.send("POST", f"{address}/api/v2/query", headers=headers, json=query, deadline=DEADLINE_SECONDS)
    refuse_failure(NAME, answer, ask.now)
    match answer.status:
        case 401 | 403:
            raise WrongKey(f"Plausible does not accept the key, or the key may not see {site}.")
        case 402:
            raise WrongKey(f"Plausible asks the owner of {site} for a plan that includes its Stats API.")
        case 400 | 404:
            raise NotThere(f"Plausible does not answer questions about {site}: check the name of the site.")
        case 200:
            return Pulled(_points(answer.json_object(), first, last, ask))
    raise PeerFailed(f"it answered {answer.status}")


def _points(body: dict[str, Any], first: date, last: date, ask: Ask) -> dict[str, Points]:
    try:
        rows = {row["dimensions"][0]: [number(one) for one in row["metrics"]] for row in body["results"]}
        days = sorted(
            day for label in body["meta"]["time_labels"] if first <= (day := date.fromisoformat(label)) <= last
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise PeerFailed("its answer is not what was asked for") from error
    if any(len(values) != len(SERIES) for values in rows.values()):
        raise PeerFailed("its answer is not what was asked for")
    if ask.first:
        # Nothing was counted before the site was set up there: those days are unknown, not zero.
        while days and days[0].isoformat() not in rows:
            del days[0]
    points: dict[str, Points] = {series: [] for series in SERIES}
    for day in days:
        at = datetime.combine(day, time(), UTC)
        for series, value in zip(SERIES, rows.get(day.isoformat(), (0.0, 0.0)), strict=True):
            points[series].append((at, value))
    return points
