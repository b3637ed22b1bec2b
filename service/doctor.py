"""`python -m service doctor`: asks every dependency, and checks what only shows under load or attack."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import asyncpg

from service.app import close_resources, create_resources
from service.core.crypto import keyring
from service.core.database import Database
from service.core.insecurities import insecurities
from service.core.migrate import head
from service.core.redis import create_redis
from service.core.regions import in_region
from service.core.settings import Settings, misspelt
from service.features.billing.flows.catalogue import mismatches
from service.features.erasure.flows.arrivals import unreplayed
from service.guardrails import hipaa
from service.guardrails.resealing import MissingKeys, compare_with_noted, note_keys
from service.integrations.http import HttpClient
from service.integrations.mail import MailFailed, mailers_of
from service.integrations.storage import NotStored, Storage, StorageAway
from service.integrations.stripe.client import StripeApi
from service.integrations.stripe.errors import StripeFailed, StripeMisconfigured

PATIENCE = 5.0
MOST_SKEW = 60  # seconds; a fifth of what webhooks are allowed


@dataclass(frozen=True, slots=True)
class Finding:
    """One check; `detail` says what was seen, or what is wrong and how to mend it."""

    what: str
    ok: bool
    detail: str


Check = Callable[[Settings], Awaitable[str]]


class Trouble(Exception):
    """A check failed; the message says how to mend it."""


async def examine(settings: Settings) -> list[Finding]:
    """Run every check; one that fails or hangs does not keep the others from answering."""
    return [await _run(what, check, settings) for what, check in CHECKS.items()]


async def _run(what: str, check: Check, settings: Settings) -> Finding:
    try:
        async with asyncio.timeout(PATIENCE):
            return Finding(what, True, await check(settings))
    except Trouble as trouble:
        return Finding(what, False, str(trouble))
    except TimeoutError:
        return Finding(what, False, f"no answer within {PATIENCE:g} s; is it running and reachable from here?")
    except Exception as error:
        return Finding(what, False, f"{type(error).__name__}: cannot be reached; check its address in the settings")


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    database = Database(settings.database_url.get_secret_value(), settings, name="doctor", size=1)
    try:
        async with database.unit_of_work(read_only=True) as work:
            yield work.raw
    finally:
        await database.dispose()


async def _database(settings: Settings) -> str:
    async with _connected(settings) as raw:
        return str(await raw.fetchval("SELECT 'PostgreSQL ' || current_setting('server_version')"))


async def _schema(settings: Settings) -> str:
    async with _connected(settings) as raw:
        found = str(await raw.fetchval("SELECT version_num FROM alembic_version"))
        broken = await raw.fetchval("SELECT array_agg(indexrelid::regclass::text) FROM pg_index WHERE NOT indisvalid")
    if found != head():
        raise Trouble(f"database is at {found}, code at {head()}: run `python -m service migrate`")
    if broken:
        raise Trouble(f"indexes are invalid, so no query uses them: REINDEX INDEX CONCURRENTLY {', '.join(broken)}")
    return found


async def _role(settings: Settings) -> str:
    """The second wall of tenancy stands only while the application's role is weak."""
    async with _connected(settings) as raw:
        row = await raw.fetchrow(
            "SELECT current_user AS name, rolsuper OR rolbypassrls OR rolcreaterole AS strong,"
            " (SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tableowner = current_user) AS owned"
            " FROM pg_roles WHERE rolname = current_user"
        )
    if row["strong"] or row["owned"]:
        raise Trouble(f"{row['name']} can bypass row-level security: point DATABASE_URL at ballast_app")
    return f"{row['name']} owns nothing and cannot bypass row-level security"


async def _connections(settings: Settings) -> str:
    """What all processes may open <= max_connections - reserve, with the server's own figure."""
    demand = settings.database_demand
    async with _connected(settings) as raw:
        room = int(await raw.fetchval("SHOW max_connections")) - settings.database_reserved_connections
    if demand > room:
        raise Trouble(f"{demand} wanted, {room} there: lower DATABASE_POOL_SIZE or raise max_connections")
    return f"{demand} of {room} available connections"


async def _encryption(settings: Settings) -> str:
    """Which connections nobody can read on the way; production refuses those that are in clear."""
    async with _connected(settings) as raw:
        database = await raw.fetchval(
            "SELECT coalesce((SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()), '')"
        )
    said = {"PostgreSQL": database, "Redis": _through_tls(settings.redis_url.get_secret_value())}
    for region, place in settings.places.items():
        smtp = place.mail_through == "smtp"
        pool = place.smtp_url.get_secret_value() if smtp else place.sendgrid_api_base or "https:"
        # smtp:// is upgraded with STARTTLS, on which production insists.
        said[f"mail of {region}"] = _through_tls(pool) or ("STARTTLS" if smtp and settings.is_production else "")
        said[f"files of {region}"] = (
            "a directory" if place.storage_url.startswith("file:") else _through_tls(place.storage_endpoint or "https:")
        )
    clear = [what for what, how in said.items() if not how]
    if clear and settings.is_production:
        raise Trouble(f"in clear: {', '.join(clear)}; use sslmode=verify-full, rediss://, smtps:// and https://")
    return ", ".join(f"{what}: {how or 'in clear'}" for what, how in said.items())


def _through_tls(url: str) -> str:
    return "TLS" if url.startswith(("https:", "rediss:", "smtps:")) else ""


async def _redis(settings: Settings) -> str:
    redis = create_redis(settings)
    try:
        info = await redis.info("memory")
        policy = info.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise Trouble(f"evicts keys ({policy}), which logs people out: set maxmemory-policy noeviction")
        return "answers, and evicts nothing"
    finally:
        await redis.aclose()


async def _mail(settings: Settings) -> str:
    http = HttpClient(settings)
    try:
        said = {region: await mailer.check() for region, mailer in mailers_of(settings, http).by_region.items()}
        return "; ".join(f"{region}: {sentence}" for region, sentence in said.items())
    except MailFailed as error:
        raise Trouble(f"{error}; check MAIL_THROUGH and what goes with it") from None
    finally:
        await http.aclose()


async def _storage(settings: Settings) -> str:
    """Each region's, by asking for what is not there."""
    http = HttpClient(settings)
    storage = Storage(settings, http)
    try:
        for region in settings.places:
            with suppress(NotStored):
                await storage.size(in_region(region, "doctor/nothing"))
    except StorageAway as error:
        raise Trouble(f"{region}: {error}; check its STORAGE_ settings") from None
    finally:
        await http.aclose()
    return f"answers in {', '.join(settings.places)}"


async def _regions(settings: Settings) -> str:
    """An organization whose region is not declared any more sends no mail and keeps no file."""
    if settings.is_production and "database_maintenance_url" not in settings.model_fields_set:
        return f"{', '.join(settings.places)}; which ones are in use only a process with DATABASE_MAINTENANCE_URL sees"
    database = Database(settings.database_maintenance_url.get_secret_value(), settings, name="doctor", size=1)
    try:
        async with database.unit_of_work(read_only=True) as work:
            found = {row["region"] for row in await work.raw.fetch("SELECT DISTINCT region FROM organizations")}
    finally:
        await database.dispose()
    if gone := found - settings.places.keys():
        raise Trouble(f"organizations live in {', '.join(sorted(gone))}, which no setting declares: see REGIONS")
    return f"home is {settings.home_region}; {', '.join(sorted(settings.regions)) or 'no other'} beside it"


async def _stripe(settings: Settings) -> str:
    stripe = StripeApi(settings)
    if not stripe.enabled:
        return "billing is off: no key"
    try:
        events = (await stripe.call("get", "/v1/events", {"limit": 1}))["data"]
    except StripeMisconfigured:
        raise Trouble("the key is not accepted, or may not read events: check STRIPE_SECRET_KEY") from None
    finally:
        await stripe.aclose()
    if any(event["livemode"] is not settings.stripe_livemode for event in events):
        raise Trouble("the key is for the other mode: STRIPE_LIVEMODE must match STRIPE_SECRET_KEY")
    if abs(skew := stripe.clock_skew) > MOST_SKEW:
        raise Trouble(f"our clock is {skew:+.0f} s off Stripe's, and webhooks would be refused: mend the time service")
    return f"accepts the key ({'real money' if settings.stripe_livemode else 'test mode'}), clocks agree"


async def _prices(settings: Settings) -> str:
    """What plans.py sells must be what Stripe charges."""
    stripe = StripeApi(settings)
    if not stripe.enabled:
        return "billing is off: no key"
    try:
        problems = await mismatches(stripe)
    except StripeFailed as error:
        raise Trouble(f"not compared: {error}") from None
    finally:
        await stripe.aclose()
    if problems:
        raise Trouble("; ".join(problems))
    return "as in plans.py"


async def _erasures(settings: Settings) -> str:
    """A database out of a backup brings erased people back, and must not serve them."""
    resources = create_resources(settings)
    try:
        missing = await unreplayed(resources)
    finally:
        await close_resources(resources)
    if missing:
        raise Trouble(f"{len(missing)} erased people are back: run `python -m service privacy replay-erasures`")
    return "nobody whom the ledger of erasures names is here"


async def _security(settings: Settings) -> str:
    problems = insecurities(settings)
    if not problems:
        return "fit for production"
    if settings.is_production:
        raise Trouble(", ".join(name for name, _ in problems))
    return f"development values ({len(problems)} of them would be refused in production)"


async def _keys(settings: Settings) -> str:
    """As the maintenance role where we were given it: nobody else sees every row."""
    if settings.is_production and "database_maintenance_url" not in settings.model_fields_set:
        async with _connected(settings) as raw:
            await compare_with_noted(raw)
        return f"as a worker noted them; key {keyring().newest} seals"
    maintenance = Database(settings.database_maintenance_url.get_secret_value(), settings, name="doctor", size=1)
    try:
        needed = await note_keys(maintenance)
    except MissingKeys as error:
        raise Trouble(str(error)) from None
    finally:
        await maintenance.dispose()
    unused = sorted(keyring().ids - {keyring().newest} - needed.keys())
    spare = f"; nothing needs {', '.join(map(str, unused))} any more: take it out" if unused else ""
    waiting = sorted(needed.keys() - {keyring().newest})
    older = f"; {', '.join(map(str, waiting))} must stay until the worker has sealed its rows anew" if waiting else ""
    return f"key {keyring().newest} seals{older}{spare}"


async def _profile(settings: Settings) -> str:
    missing = hipaa.unsigned(settings)
    if missing and settings.is_production:
        raise Trouble(missing)
    return f"{settings.compliance_profile}{f'; production would refuse: {missing}' if missing else ''}"


async def _spelling(_: Settings) -> str:
    """A misspelt setting is silently its default."""
    if wrong := misspelt(os.environ):
        raise Trouble(", ".join(f"{name} is no setting, {meant} was probably meant" for name, meant in wrong))
    return "no variable looks like a misspelt setting"


CHECKS: dict[str, Check] = {
    "database": _database,
    "schema": _schema,
    "role": _role,
    "connections": _connections,
    "redis": _redis,
    "encryption": _encryption,
    "mail": _mail,
    "storage": _storage,
    "regions": _regions,
    "stripe": _stripe,
    "prices": _prices,
    "keys": _keys,
    "erasures": _erasures,
    "settings": _security,
    "profile": _profile,
    "spelling": _spelling,
}
