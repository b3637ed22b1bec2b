"""What every page for people shares: the account's lock, words for money and moments, and the test cards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from infra.sandbox.pages import TEMPLATES, page
from infra.sandbox.stripe.payment_methods import CARDS
from infra.sandbox.stripe.store import Account, Obj, StripeError

Form = dict[str, str]
Work = Callable[[Account, Request, Form], Response]
# docs.stripe.com/currencies#zero-decimal; those that a demo may use.
ZERO_DECIMAL = {"jpy", "krw", "vnd", "clp"}
OUTCOMES = {"ok": "pays", "declined": "is declined", "challenged": "asks for 3-D Secure each time"} | {
    "disputed": "pays, and the bank takes it back at once"
}
CARD_CHOICES = [
    (name, f"{card.brand.title()} ending in {card.last4}", OUTCOMES[card.outcome]) for name, card in CARDS.items()
]


def locked(account: Account, work: Work) -> Callable[[Request], Awaitable[Response]]:
    """Do the work under the account's lock, with its time caught up; what is not there becomes a page that says so."""

    async def answer(request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        try:
            with account.lock:
                account.clock.catch_up()
                return work(account, request, form)
        except StripeError as error:
            return notice(request, "This did not work", str(error), status_code=error.status)

    return answer


def notice(request: Request, title: str, text: str, *, link: str = "", label: str = "", **options: Any) -> Response:
    return page(request, "stripe/notice.html", title=title, text=text, link=link, label=label, **options)


def origins(*urls: str | None) -> str:
    """A form's allowed targets: itself, and where its redirect may lead."""
    parts = [urlsplit(url) for url in urls if url]
    return " ".join(["'self'", *dict.fromkeys(f"{one.scheme}://{one.netloc}" for one in parts if one.netloc)])


def money(minor: int | None, currency: str) -> str:
    """Minor units as people read them: 1900 eur is 19.00 EUR."""
    places = 0 if currency in ZERO_DECIMAL else 2
    return f"{Decimal(minor or 0).scaleb(-places):,.{places}f} {currency.upper()}"


def moment(seconds: float) -> str:
    """A time as people read it, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%d %B %Y}".lstrip("0")


def price_words(price: Obj) -> str:
    """What a price asks for and how often."""
    recurring = price["recurring"] or {}
    every = recurring.get("interval_count") or 1
    rhythm = f" per {recurring['interval']}" if every == 1 else f" every {every} {recurring['interval']}s"
    return money(price["unit_amount"], price["currency"]) + (rhythm if recurring else "")


TEMPLATES.env.filters |= {"money": money, "moment": moment, "day": day, "price_words": price_words}
TEMPLATES.env.globals["card_choices"] = CARD_CHOICES
