"""The demo that `make run` shows: three organizations, forty indicators with ninety days of
hourly readings, and a source of each kind.

Planting twice changes nothing. It goes through the tables directly, not through the actions: nobody acted, so the
audit log stays empty, and 86,400 readings take seconds.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import bindparam, select

from service.catalog import load_tables
from service.core import clock
from service.core.crypto import keyed_hash
from service.core.database import Database, UnitOfWork
from service.core.ids import new_id
from service.core.settings import Settings
from service.core.statements import Prepared
from service.features.accounts.models import User
from service.features.accounts.models.passwords import hash_password
from service.features.api_keys.models import ApiKey
from service.features.api_keys.queries import offered
from service.features.billing.flows import catalogue
from service.features.imports.flows.layout import Layout
from service.features.imports.flows.parse import parse
from service.features.imports.flows.store import append, read
from service.features.imports.flows.verdicts import as_lines
from service.features.imports.models import DecimalMark, Import, ImportVerdict, Mode, State
from service.features.indicators.actions import APPEND
from service.features.indicators.models import Indicator
from service.features.notifications.models import MEMBER_JOINED, ROLE_CHANGED, Notification
from service.features.organizations.models import Membership, Organization
from service.features.sources.models import Outcome, Source, SourceFeed, SourceRun
from service.features.sources.schemas import GitHubForm, PlausibleForm, RatesForm
from service.features.webhooks.flows.demo import plant_endpoint
from service.guardrails.api_keys import SHOWN, hash_of, mint
from service.guardrails.permissions import Role

PASSWORD = "ballast demo password"
FIRST = UUID(int=0x0199_0000_0000_7000_8000_0000_0000_0001)
DAYS = 90
PEOPLE = (
    ("Olivia Owner", "owner", Role.OWNER),
    ("Marc Member", "member", Role.MEMBER),
    ("Vera Viewer", "viewer", Role.VIEWER),
)
BY_EMAIL = Prepared(select(User.id).where(User.email == bindparam("email")))


@dataclass(frozen=True, slots=True)
class Shape:
    """How a believable series behaves: level, growth over the period, daily and weekly swing, noise."""

    name: str
    unit: str
    about: str
    level: float
    growth: float = 0.0
    daily: float = 0.3
    weekend: float = 0.6
    noise: float = 0.05
    whole: bool = False


SHAPES = (
    Shape("Sign-ups", "people", "New accounts per hour", 42, 0.5, 0.7, 0.5, 0.15, True),
    Shape("Revenue", "EUR", "Paid invoices per hour", 1_850, 0.35, 0.6, 0.4, 0.12),
    Shape("Active users", "people", "Seen in the last hour", 5_400, 0.4, 0.5, 0.7, 0.04, True),
    Shape("Open tickets", "tickets", "Waiting for an answer", 38, -0.3, 0.2, 1.2, 0.1, True),
    Shape("First reply", "min", "Median time to a first answer", 24, -0.4, 0.3, 1.5, 0.12),
    Shape("Churn", "%", "Cancelled in the last 30 days", 2.4, -0.2, 0.0, 1.0, 0.03),
    Shape("API latency", "ms", "95th percentile", 182, 0.05, 0.25, 0.8, 0.09),
    Shape("Error rate", "%", "Answers with 5xx", 0.12, 0.0, 0.1, 0.9, 0.4),
    Shape("EUR/USD", "USD", "European Central Bank reference rate", 1.09, 0.02, 0.0, 1.0, 0.002),
    Shape("Conversion", "%", "Visitors who sign up", 3.1, 0.15, 0.15, 0.9, 0.06),
    Shape("Page views", "views", "All pages", 18_200, 0.3, 0.65, 0.6, 0.06, True),
    Shape("Trial starts", "trials", "Began a trial", 11, 0.25, 0.6, 0.5, 0.25, True),
    Shape("Orders", "orders", "Completed checkouts", 96, 0.2, 0.6, 1.3, 0.1, True),
    Shape("Basket value", "EUR", "Mean per order", 64, 0.08, 0.1, 1.1, 0.07),
    Shape("Stock level", "units", "Across all warehouses", 12_400, -0.35, 0.05, 1.0, 0.01, True),
    Shape("Returns", "parcels", "Arrived today", 7, 0.1, 0.4, 0.3, 0.3, True),
)
ORGANIZATIONS = (("Northwind Traders", 16), ("Lighthouse Labs", 14), ("Harbor & Sons", 10))


async def plant(settings: Settings) -> list[dict[str, str]]:
    """Plant what is missing and return the logins of the first organization and of staff.

    Refused in production: everybody knows these passwords.
    """
    if settings.is_production:
        raise SystemExit("the demo accounts have public passwords: seed only a development database")
    load_tables()
    await catalogue.stock(settings)
    database = Database(settings.database_url.get_secret_value(), settings)
    try:
        planting = [_organization(database, number, *each) for number, each in enumerate(ORGANIZATIONS)]
        logins = await asyncio.gather(*planting)
        logins[0][0]["api_key"] = await _api_key(database)
        return [*logins[0], await _staff(database)]
    finally:
        await database.dispose()


async def plant_webhooks(settings: Settings, url: str) -> list[str]:
    """The first organization tells a receiver at `url` what happens; answers the secrets that it verifies with."""
    organization = FIRST
    database = Database(settings.database_url.get_secret_value(), settings)
    try:
        async with database.unit_of_work(tenant=organization) as work:
            return [await plant_endpoint(work, organization, url)]
    finally:
        await database.dispose()


async def _organization(database: Database, number: int, name: str, indicators: int) -> list[dict[str, str]]:
    suffix = "" if number == 0 else f"{number + 1}"
    people = [(person, f"{word}{suffix}@ballast.example", role) for person, word, role in PEOPLE]
    logins = [{"role": role.label, "email": email, "password": PASSWORD} for _, email, role in people]
    organization = Organization(name=name)
    async with database.unit_of_work(tenant=None) as work:
        if await work.fetch_one(BY_EMAIL, email=people[0][1]):
            return logins
    hashed = await hash_password(PASSWORD)
    organization.id = UUID(int=FIRST.int + number)
    async with database.unit_of_work(tenant=organization.id) as work:
        work.session.add(organization)
        await work.session.flush()
        for person, email, role in people:
            user = _user(person, email, hashed)
            user.last_organization_id = organization.id
            work.session.add(user)
            await work.session.flush()
            work.session.add(Membership(user_id=user.id, role=role))
            work.session.add_all(_news(user, role))
        for index in range(indicators):
            await _indicator(work, SHAPES[(index + number * 5) % len(SHAPES)], seed=number * 100 + index)
        if number == 0:
            await _sources(work)
            await _import(work)
    return logins


async def _sources(work: UnitOfWork) -> None:
    """One of each kind, a day of askings behind it; the worker asks at once, and fetches the month before."""
    now = clock.now()
    for form in (
        RatesForm(base="EUR", quotes="USD"),
        GitHubForm(repository="northwind/storefront"),
        PlausibleForm(site="northwind.example", key=SecretStr("plausible-ballast-sandbox")),
    ):
        wish = form.wish()
        source = Source(id=new_id(), kind=wish.kind, target=wish.target, config=dict(wish.config))
        source.keep_key(wish.key)
        source.ok_at = source.tried_at = now - timedelta(hours=1)
        series = wish.series[0]
        indicator = Indicator(name=series.name, description=series.about, unit=series.unit)
        indicator.fed_by(source.id, source.ok_at)
        work.session.add_all((source, indicator))
        await work.session.flush()
        work.session.add(SourceFeed(source_id=source.id, series=series.key, indicator_id=indicator.id))
        for hours in range(24, 0, -1):
            at = now - timedelta(hours=hours)
            work.session.add(SourceRun(source_id=source.id, at=at, outcome=Outcome.UNCHANGED, took_ms=80 + hours))


async def _import(work: UnitOfWork) -> None:
    """Two days of orders from before the hourly ones, out of a file with two mistakes."""
    indicator_id = (await work.session.scalars(select(Indicator.id).where(Indicator.name == "Orders"))).one()
    start = clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(days=DAYS + 2)
    lines = [f"{(start + timedelta(hours=hour)).isoformat()},{60 + hour * 7 % 23}" for hour in range(48)]
    lines[9], lines[30] = lines[9].partition(",")[0] + ",n/a", f"{start:%d.%m.%Y},71"
    found = parse([line.encode() for line in lines], 2, Layout(",", ("time", "value")), None, DecimalMark.POINT)
    rows, verdicts = await read(work, found, indicator_id)
    await append(work, rows, verdicts)
    told = Import(
        name="orders-before-launch.csv", size=len("\n".join(lines)), position=len("\n".join(lines)), mode=Mode.GOOD,
        zone="UTC", decimal=DecimalMark.POINT, indicator_id=indicator_id, state=State.DONE, rows=48, added=46,
        refused=2, finished_at=clock.now(),
    )  # fmt: skip
    work.session.add(told)
    await work.session.flush()
    work.session.add(ImportVerdict(import_id=told.id, number=2, refused=2, report=as_lines(verdicts)))


async def _api_key(database: Database) -> str:
    """The first organization's; the same at every start, and another on every machine."""
    secret = mint(FIRST, keyed_hash("seed.api-key", str(FIRST)))
    async with database.unit_of_work(tenant=FIRST) as work:
        if not (await work.session.scalars(select(ApiKey).where(ApiKey.secret_hash == hash_of(secret)))).all():
            about: dict[str, Any] = {"name": "Demo program", "role": Role.OWNER, "scopes": offered(Role.OWNER)}
            work.session.add(ApiKey(**about, prefix=secret[:SHOWN], secret_hash=hash_of(secret)))
    return secret


async def _staff(database: Database) -> dict[str, str]:
    email = "staff@ballast.example"
    async with database.unit_of_work(tenant=None) as work:
        user = (await work.session.scalars(select(User).where(User.email == email))).one_or_none()
        if user is None:
            user = _user("Sam Staff", email, await hash_password(PASSWORD))
            user.is_staff = True
            work.session.add(user)
            await work.session.flush()
            user.offer_totp()  # the staff panel opens only with a second factor, for the demo too
            user.totp_confirmed_at = clock.now()
        key = user.shown_totp_secret().decode()
    return {"role": "staff", "email": email, "password": PASSWORD, "authenticator_key": key}


def _news(user: User, role: Role) -> Iterator[Notification]:
    """Something read long ago for everybody, and something new for those who look after people."""
    was = clock.now() - timedelta(days=12)
    yield Notification(
        user_id=user.id, kind=ROLE_CHANGED.name, text=f"You are {role.label} now.", href="/members", key="seed",
        created_at=was, read_at=was + timedelta(hours=3),
    )  # fmt: skip
    if role >= MEMBER_JOINED.of:
        for colleague, word, place in PEOPLE[1:]:
            yield Notification(
                user_id=user.id, kind=MEMBER_JOINED.name, text=f"{colleague} has joined as {place.label}.",
                href="/members", key=word, created_at=clock.now() - timedelta(hours=len(word)),
            )  # fmt: skip


def _user(name: str, email: str, hashed: str) -> User:
    return User(name=name, email=email, password_hash=hashed, email_verified_at=clock.now())


async def _indicator(work: UnitOfWork, shape: Shape, seed: int) -> None:
    indicator = Indicator(name=shape.name, description=shape.about, unit=shape.unit)
    work.session.add(indicator)
    await work.session.flush()
    series = list(readings(shape, seed))
    await work.fetch(
        APPEND,
        indicators=[indicator.id] * len(series),
        ats=[at for at, _ in series],
        readings=[value for _, value in series],
        now=clock.now(),
    )


def readings(shape: Shape, seed: int) -> Iterator[tuple[datetime, float]]:
    """Hourly values up to the last full hour; the same seed gives the same course."""
    chance = random.Random(seed)  # noqa: S311 - demo data, not secrets
    end = clock.now().replace(minute=0, second=0, microsecond=0)
    hours, drift = DAYS * 24, 0.0
    for hour in range(hours):
        at = end - timedelta(hours=hours - hour - 1)
        drift = 0.98 * drift + chance.gauss(0, shape.noise / 3)
        day = 1 + shape.daily * math.sin((at.hour - 9) / 24 * 2 * math.pi)
        week = shape.weekend if at.weekday() >= 5 else 1.0
        value = (
            shape.level * (1 + shape.growth * hour / hours) * day * week * (1 + drift + chance.gauss(0, shape.noise))
        )
        yield at, float(round(max(0.0, value))) if shape.whole else round(max(0.0, value), 4)
