"""The demo that `make run` shows: three organizations, forty indicators with ninety days of
hourly readings, a source of each kind, and something on each page of staff.

Planting twice changes nothing. What was there before anybody came goes through the tables directly: 86,400 readings
take seconds. What somebody did, `acts` does by the actions.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, select

from service.catalog import load_tables
from service.core import clock
from service.core.context import Resources
from service.core.crypto import keyed_hash
from service.core.database import Database
from service.core.errors import TooManyRequests
from service.core.ids import new_id
from service.core.redis import create_redis
from service.core.settings import Settings
from service.core.statements import Prepared
from service.features.accounts.models import User
from service.features.accounts.models.passwords import hash_password
from service.features.api_keys.models import ApiKey
from service.features.api_keys.queries import offered
from service.features.billing.flows import catalogue
from service.features.billing.flows.demo import message_of_nobody
from service.features.files.flows.demo import finding_in, plant_files
from service.features.imports.flows.demo import plant_import
from service.features.indicators.flows.demo import plant_indicators
from service.features.notifications.flows.demo import event_nobody_understands, held_back, news_for
from service.features.organizations.models import Membership, Organization
from service.features.privacy.flows.demo import copy_for
from service.features.sources.flows.demo import plant_sources
from service.features.support.flows.demo import grant_of, visit_of
from service.features.webhooks.flows.demo import plant_endpoint
from service.guardrails.api_keys import SHOWN, hash_of, mint
from service.guardrails.inbox import InboxMessage
from service.guardrails.permissions import Role
from service.guardrails.rate_limits import LOGIN, spend
from service.seed.acts import act_out

PASSWORD = "ballast demo password"
FIRST = UUID(int=0x0199_0000_0000_7000_8000_0000_0000_0001)
PEOPLE = (
    ("Olivia Owner", "owner", Role.OWNER),
    ("Marc Member", "member", Role.MEMBER),
    ("Vera Viewer", "viewer", Role.VIEWER),
)
BY_EMAIL = Prepared(select(User.id).where(User.email == bindparam("email")))


OTHERS = {
    "oncall": "Erin Engineer",
    "colleague": "Cora Colleague",
    "left": "Lea Leaver",
    "tomorrow": "Tom Tomorrow",
    "gone": "Gil Gone",
}
MET = ("oncall", "owner", "staff")
LONG_AGO = timedelta(days=40)
"""Longer than a deleted account can come back."""
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
        # The last one shows what another region looks like, where there is one.
        regions = [settings.home_region, settings.home_region, [*settings.places][-1]]
        planting = [
            _organization(database, number, region, *each)
            for number, (region, each) in enumerate(zip(regions, ORGANIZATIONS, strict=True))
        ]
        logins = await asyncio.gather(*planting)
        logins[0][0]["api_key"] = await _api_key(database)
        await _something_for_staff(database, settings)
        await plant_files(database, settings, FIRST)
        staff = await _staff(database)
        if people := await _who_is_new(database):
            await act_out(settings, people, UUID(int=FIRST.int + 1))
        return [*logins[0], staff]
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


async def _organization(
    database: Database, number: int, region: str, name: str, indicators: int
) -> list[dict[str, str]]:
    suffix = "" if number == 0 else f"{number + 1}"
    people = [(person, f"{word}{suffix}@ballast.example", role) for person, word, role in PEOPLE]
    logins = [{"role": role.label, "email": email, "password": PASSWORD} for _, email, role in people]
    organization = Organization(name=name, region=region)
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
            work.session.add_all(news_for(user.id, role, PEOPLE[1:]))
            if number == 0 and role is Role.OWNER:
                work.session.add(copy_for(user.id))
        await plant_indicators(work, indicators, number)
        if number == 0:
            await plant_sources(work)
            await plant_import(work)
    return logins


async def _api_key(database: Database) -> str:
    """The first organization's; the same at every start, and another on every machine."""
    secret = mint(FIRST, keyed_hash("seed.api-key", str(FIRST)))
    async with database.unit_of_work(tenant=FIRST) as work:
        if not (await work.session.scalars(select(ApiKey).where(ApiKey.secret_hash == hash_of(secret)))).all():
            about: dict[str, Any] = {"name": "Demo program", "role": Role.OWNER, "scopes": offered(Role.OWNER)}
            work.session.add(ApiKey(**about, prefix=secret[:SHOWN], secret_hash=hash_of(secret)))
    return secret


async def _something_for_staff(database: Database, settings: Settings) -> None:
    """A dead letter, and somebody who guesses at the viewer's password and is kept waiting for some minutes."""
    async with database.unit_of_work(tenant=None) as work:
        event = event_nobody_understands()
        known = select(InboxMessage.id).where(InboxMessage.source == event.source)
        if (await work.session.execute(known.where(InboxMessage.external_id == event.external_id))).first() is None:
            work.session.add(event)
    resources = Resources(settings, database, create_redis(settings))
    try:
        for _ in range(6):
            await spend(resources, LOGIN, subject="viewer@ballast.example", address="203.0.113.7")
    except TooManyRequests:
        pass  # as it should be
    finally:
        await resources.redis.aclose()


async def _who_is_new(database: Database) -> dict[str, UUID]:
    """People outside the organizations, and what lies back too long to be done now: a visit, emergency rights, an
    address that bounced, a finding of the scanner. Everybody by the first part of their address; nobody when they are
    here already."""
    async with database.unit_of_work(tenant=None) as work:
        wanted = select(User.email, User.id).where(User.email.in_([f"{word}@ballast.example" for word in MET]))
        known = {row.email.partition("@")[0]: row.id for row in await work.session.execute(wanted)}
        if "oncall" in known:
            return {}
        hashed = await hash_password(PASSWORD)
        new = {word: _user(name, f"{word}@ballast.example", hashed) for word, name in OTHERS.items()}
        new["colleague"].is_staff = True
        work.session.add_all(new.values())
        await work.session.flush()
        gone = new["gone"]
        gone.deleted_at, gone.deletion_id, gone.deleted_by = clock.now() - LONG_AGO, new_id(), gone.id
        grant = grant_of(new["oncall"].id, known["staff"])
        work.session.add_all([grant, held_back("bounced@ballast.example"), finding_in(FIRST), message_of_nobody()])
    async with database.unit_of_work(tenant=FIRST) as work:
        work.session.add(visit_of(known["staff"], known["owner"]))
    return known | {word: user.id for word, user in new.items()}


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


def _user(name: str, email: str, hashed: str) -> User:
    return User(name=name, email=email, password_hash=hashed, email_verified_at=clock.now())
