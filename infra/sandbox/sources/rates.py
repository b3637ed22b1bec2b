"""Frankfurter's API v1 (https://frankfurter.dev/v1/): daily exchange rates, the same for the same day each time."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.sandbox.sources.faults import BusinessApi

PER_EURO = {"EUR": 1.0, "USD": 1.09, "GBP": 0.85, "CHF": 0.95, "JPY": 164.0, "SEK": 11.3, "PLN": 4.3}
FIRST_DAY = date(1999, 1, 4)
NOT_FOUND = {"message": "not found"}


class RatesApi(BusinessApi):
    name = "Exchange rates stand-in"
    examples = (("EUR to USD, GBP", "any of " + ", ".join(PER_EURO)),)

    def routes(self) -> list[Route]:
        return [Route("/v1/{period}", self.faulty(self._rates))]

    def bad_key(self) -> Response:
        return JSONResponse({"message": "unauthorized"}, 401)

    def limited(self, seconds: int) -> Response:
        return JSONResponse({"message": "too many requests"}, 429, headers={"Retry-After": str(seconds)})

    async def _rates(self, request: Request) -> Response:
        period, asked = request.path_params["period"], request.query_params
        base = asked.get("base", "EUR").upper()
        quotes = [one.upper() for one in asked["symbols"].split(",")] if "symbols" in asked else list(PER_EURO)
        try:
            if period == "latest":
                first = last = newest(today())
            else:
                since, _, until = period.partition("..")
                first, last = date.fromisoformat(since), date.fromisoformat(until) if until else today()
        except ValueError:
            return JSONResponse({"message": "invalid date"}, 422)
        known = [quote for quote in quotes if quote in PER_EURO and quote != base]
        if base not in PER_EURO or not known or first > datetime.now(UTC).date():
            return JSONResponse(NOT_FOUND, 404)
        day, rates = newest(min(first, today())), {}
        while day <= min(last, today()):
            if day.weekday() < 5:
                rates[day.isoformat()] = {quote: rate(day, base, quote) for quote in sorted(known)}
            day += timedelta(days=1)
        head = {"amount": 1.0, "base": base}
        if period == "latest":
            return JSONResponse(head | {"date": first.isoformat(), "rates": rates[first.isoformat()]})
        return JSONResponse(head | {"start_date": min(rates), "end_date": max(rates), "rates": rates})


def today() -> date:
    """The newest day that may have a rate: published in the afternoon."""
    return (datetime.now(UTC) - timedelta(hours=15)).date()


def newest(day: date) -> date:
    """The last working day up to this one."""
    return max(FIRST_DAY, day - timedelta(days=max(0, day.weekday() - 4)))


def rate(day: date, base: str, quote: str) -> float:
    """A believable course: slow waves, a little different for each currency."""

    def of(currency: str) -> float:
        wave = math.sin(day.toordinal() / 23 + len(currency) + sum(map(ord, currency))) * 0.02
        return PER_EURO[currency] * (1 + (wave + 0.006 * math.sin(day.toordinal() * 1.7) if currency != "EUR" else 0))

    return round(of(quote) / of(base), 5)
