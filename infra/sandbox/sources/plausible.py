"""Plausible's Stats API v2: `POST /api/v2/query`, grouped by day (https://plausible.io/docs/stats-api)."""

from __future__ import annotations

import math
from datetime import date, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.sandbox.sources.faults import BusinessApi

KEY = "plausible-ballast-sandbox"
SITES = {"northwind.example": 900, "shop.northwind.example": 2_400}
METRICS = {"visitors": 1.0, "pageviews": 3.4, "visits": 1.2}
MISSING_KEY = "Missing API key. Please use a valid Plausible API key as a Bearer Token."
BAD_KEY = (
    "Invalid API key or site ID. Please make sure you're using a valid API key"
    " with access to the site you've requested."
)


class PlausibleApi(BusinessApi):
    name = "Plausible stand-in"
    examples = tuple((site, f"key {KEY}") for site in SITES)

    def routes(self) -> list[Route]:
        return [Route("/api/v2/query", self.faulty(self._query), methods=["POST"])]

    def bad_key(self) -> Response:
        return JSONResponse({"error": BAD_KEY}, 401)

    def limited(self, seconds: int) -> Response:
        """Without a word about how long: the limit is one per hour."""
        text = "Too many API requests. The limit is 600 per hour. Please contact us to request more capacity."
        return JSONResponse({"error": text}, 429)

    async def _query(self, request: Request) -> Response:
        try:
            asked: dict[str, Any] = await request.json()
            site, metrics = asked["site_id"], asked["metrics"]
            first, last = map(date.fromisoformat, asked["date_range"])
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"error": "Invalid query."}, 400)
        given = request.headers.get("authorization", "")
        if not given:
            return JSONResponse({"error": MISSING_KEY}, 401)
        if given != f"Bearer {KEY}" or site not in SITES:
            return self.bad_key()
        if not set(metrics) <= set(METRICS) or asked.get("dimensions") != ["time:day"] or last < first:
            return JSONResponse({"error": "Invalid query."}, 400)
        days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        rows = [
            {"dimensions": [day.isoformat()], "metrics": [round(visitors * METRICS[metric]) for metric in metrics]}
            for day in days
            if (visitors := visitors_on(site, day))
        ]
        meta = {"time_labels": [day.isoformat() for day in days]} if asked.get("include", {}).get("time_labels") else {}
        query = asked | {"date_range": [f"{first}T00:00:00+00:00", f"{last}T23:59:59+00:00"], "filters": []}
        return JSONResponse({"results": rows, "meta": meta, "query": query})


def visitors_on(site: str, day: date) -> int:
    """A week's rhythm; nobody comes on the day the office moves, the 13th."""
    if day.day == 13:
        return 0
    weekend = 0.55 if day.weekday() >= 5 else 1.0
    return round(SITES[site] * weekend * (1 + 0.15 * math.sin(day.toordinal() / 11)))
