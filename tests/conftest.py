"""Real servers for every test: one PostgreSQL and one Redis per run, one migrated database per parallel worker.

The controller starts the servers and migrates a template once; each pytest-xdist worker clones the template, so a
worker costs a tenth of a second and no test sees another worker's rows. Nothing here touches the data of `make run`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import hypothesis
import pytest

from infra.sandbox.clamd import Clamd
from infra.sandbox.mail import MailSink
from infra.sandbox.oidc import OIDCProvider
from infra.sandbox.postgres import EmbeddedPostgres
from infra.sandbox.proxies import forget_proxies
from infra.sandbox.redis import EmbeddedRedis
from infra.sandbox.sources.github import GitHubApi
from infra.sandbox.sources.plausible import PlausibleApi
from infra.sandbox.sources.rates import RatesApi
from infra.sandbox.stripe.delivery import LADDER
from infra.sandbox.stripe.server import StripeStandIn
from service.core import clock
from service.core.context import Resources
from service.core.database import Database
from service.core.settings import Settings, get_settings
from tests.support import captured_sql
from tests.support.factories import Factory
from tests.support.servers import RunningServer, RunningWorker
from tests.support.stripe import stock

# Two shared cores are slow at times; a deadline would test the neighbour. CI draws the same examples each time.
hypothesis.settings.register_profile(
    "ballast",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("ballast")

# httpcore asks for this module a dozen times in each request; known to be missing, it is not looked for on the disk.
sys.modules["sniffio"] = None  # type: ignore[assignment]

forget_proxies()
TEMPLATE = "ballast_template"
SKEWED = "ballast_skewed"
_servers = ExitStack()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-role-matrix", action="store_true", help="write tests/architecture/role_matrix.txt anew")


def pytest_configure(config: pytest.Config) -> None:
    """On the controller only: start the servers that all workers share."""
    captured_sql.listen()
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    directory = Path(_servers.enter_context(tempfile.TemporaryDirectory(prefix="ballast-test-")))
    postgres = _servers.enter_context(EmbeddedPostgres(directory / "postgres", durable=False, max_connections=300))
    redis = _servers.enter_context(EmbeddedRedis(directory / "redis"))
    postgres.create_database(TEMPLATE)
    os.environ["DATABASE_OWNER_URL"] = postgres.url("ballast_owner", TEMPLATE)
    get_settings.cache_clear()
    from service.core.migrate import upgrade

    upgrade()
    os.environ["BALLAST_TEST_SERVERS"] = f"{directory}|{postgres.port}|{redis.port}"
    config.stash[_STARTED] = (postgres, redis)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold slow tests: one that comes last keeps a worker busy while the others are done.

    Each worker is given an equal piece of the list, so each piece begins with its share of those files.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))
    slow = list(dict.fromkeys(item.path for item in items if item.get_closest_marker("slow")))
    quick = [item for item in items if item.path not in slow]
    ordered: list[pytest.Item] = []
    for piece in range(workers):
        ordered += [item for item in items if item.path in slow[piece::workers]]
        end = len(items) * (piece + 1) // workers
        ordered += [quick.pop(0) for _ in range(min(len(quick), end - len(ordered)))]
    items[:] = [*ordered, *quick] if workers else items


def pytest_sessionfinish(session: pytest.Session) -> None:
    """When the whole suite ran: explain every statement it sent on skewed data, and fail the run on a bad plan."""
    config, addresses = session.config, os.environ.get("BALLAST_TEST_SERVERS", "")
    if not addresses:
        return
    folder = Path(addresses.split("|")[0])
    if hasattr(config, "workerinput") or not config.pluginmanager.has_plugin("dsession"):
        captured_sql.capture.save(folder / f"statements-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}.json")
    if hasattr(config, "workerinput") or _is_partial(config):
        return
    servers = TestServers()
    make_skewed(servers)
    seen = captured_sql.combine(sorted(folder.glob("statements-*.json")))
    try:
        found = asyncio.run(captured_sql.complaints(servers.postgres.url("postgres", SKEWED), *seen))
        found += captured_sql.unneeded(seen[0])
    except asyncpg.PostgresError as error:  # raised here, it would swallow the summary of the failed tests
        found = [f"the check itself failed: {type(error).__name__}: {error}"]
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    reporter.section("statements of the whole suite, explained on skewed data")
    for line in found or [f"{len(seen[0])} statements, no bad plan"]:
        reporter.write_line(line)
    if found and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _is_partial(config: pytest.Config) -> bool:
    """A selection of tests proves nothing about the statements of the others."""
    return bool(config.option.keyword or config.option.markexpr or config.args_source.name == "ARGS")


_STARTED: pytest.StashKey[tuple[EmbeddedPostgres, EmbeddedRedis]] = pytest.StashKey()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        _servers.close()


@pytest.fixture(scope="session")
def worker_name() -> str:
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


class TestServers:
    """Addresses of the run's servers, rebuilt from the environment inside each worker."""

    __test__ = False

    def __init__(self) -> None:
        directory, postgres_port, redis_port = os.environ["BALLAST_TEST_SERVERS"].split("|")
        self.postgres = EmbeddedPostgres(Path(directory) / "postgres", port=int(postgres_port), durable=False)
        self.redis = EmbeddedRedis(Path(directory) / "redis", port=int(redis_port))


def make_skewed(servers: TestServers) -> None:
    """The database that plans are judged on: filled once per run, by whoever needs it first; the others wait."""
    postgres = servers.postgres
    with (postgres.data_dir / "skewed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not postgres.psql(f"SELECT 1 FROM pg_database WHERE datname = '{SKEWED}'"):
            postgres.create_database(filling := f"{SKEWED}_filling", template=TEMPLATE)
            postgres.psql(captured_sql.SKEW, filling)
            postgres.psql(f"ALTER DATABASE {filling} RENAME TO {SKEWED}")


@pytest.fixture(scope="session")
def servers() -> TestServers:
    return TestServers()


@pytest.fixture(scope="session")
def database_name(servers: TestServers, worker_name: str) -> Iterator[str]:
    name = f"ballast_{worker_name}"
    servers.postgres.create_database(name, template=TEMPLATE)
    yield name
    servers.postgres.drop_database(name)


@pytest.fixture(scope="session")
def mailbox() -> Iterator[MailSink]:
    with MailSink() as sink:
        yield sink


@pytest.fixture(scope="session")
def oidc() -> Iterator[OIDCProvider]:
    with OIDCProvider() as provider:
        yield provider


@pytest.fixture(scope="session")
def stripe() -> Iterator[StripeStandIn]:
    """Stripe, healthy and with what we sell; the tests of billing see that each finds it so."""
    with StripeStandIn() as stand_in:
        # One delivery that a busy machine turns away would come again after five minutes, when no test waits any more.
        stand_in.account.courier.ladder = tuple(wait / 300 for wait in LADDER)
        stock(stand_in)
        yield stand_in


@dataclass(frozen=True)
class Outside:
    """The business APIs that indicators are fed from."""

    rates: RatesApi
    github: GitHubApi
    plausible: PlausibleApi


@pytest.fixture(scope="session")
def outside() -> Iterator[Outside]:
    with RatesApi() as rates, GitHubApi() as github, PlausibleApi() as plausible:
        yield Outside(rates, github, plausible)


@pytest.fixture(scope="session")
def clamd() -> Iterator[Clamd]:
    """A virus scanner that answers; who turns a knob turns it back."""
    with Clamd() as stand_in:
        yield stand_in


@pytest.fixture(scope="session")
def settings(
    servers: TestServers,
    database_name: str,
    worker_name: str,
    mailbox: MailSink,
    oidc: OIDCProvider,
    stripe: StripeStandIn,
    outside: Outside,
    clamd: Clamd,
) -> Settings:
    """The worker's settings, also in the environment: code that reads `get_settings()` sees the same."""
    from infra.sandbox.ports import free_port

    port = free_port()
    values = {
        "BASE_URL": f"http://127.0.0.1:{port}",
        "DATABASE_URL": servers.postgres.url("ballast_app", database_name),
        "DATABASE_OWNER_URL": servers.postgres.url("ballast_owner", database_name),
        "DATABASE_MAINTENANCE_URL": servers.postgres.url("ballast_maintenance", database_name),
        "REDIS_URL": servers.redis.url(),
        # Two busy cores are no exhausted pool and no lost Redis; the tests that exhaust or lose them set their own.
        # Below the limit on idle transactions: whoever waits for a second connection must not lose the first.
        "DATABASE_POOL_TIMEOUT_SECONDS": "5",
        "REDIS_NAMESPACE": f"test-{worker_name}",
        "REDIS_TIMEOUT_MS": "2000",
        "SMTP_URL": mailbox.smtp_url,
        "OIDC_ISSUER": oidc.address,
        "STRIPE_API_BASE": stripe.address,
        "STRIPE_SECRET_KEY": stripe.secret_key,
        "STORAGE_URL": f"file:{os.environ['BALLAST_TEST_SERVERS'].split('|')[0]}/files-{worker_name}",
        "RATES_API_BASE": outside.rates.address,
        "GITHUB_API_BASE": outside.github.address,
        "PLAUSIBLE_API_BASE": outside.plausible.address,
        "WEBHOOK_SANDBOX_HOSTS": "127.0.0.1",
        "SCANNER_URL": clamd.scanner_url,
        "TRUSTED_PROXIES": "127.0.0.1/32",
        "LOG_LEVEL": "INFO",
    }
    os.environ.update(values)
    get_settings.cache_clear()
    return get_settings()


@pytest.fixture(scope="session")
async def superuser(servers: TestServers, database_name: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Sees and may do everything: for planting what the product cannot, and for tampering."""
    connection = await asyncpg.connect(servers.postgres.url("postgres", database_name))
    yield connection
    await connection.close()


@pytest.fixture(scope="session")
async def resources(settings: Settings) -> AsyncIterator[Resources]:
    """What a web process has."""
    from service.app import close_resources, create_resources
    from service.catalog import load_tables

    load_tables()
    made = create_resources(settings)
    yield made
    await close_resources(made)


@pytest.fixture(scope="session")
async def database(resources: Resources) -> Database:
    return resources.database


@pytest.fixture(scope="session")
async def maintenance(settings: Settings) -> AsyncIterator[Database]:
    made = Database(settings.database_maintenance_url.get_secret_value(), settings, name="maintenance", size=2)
    yield made
    await made.dispose()


@pytest.fixture(scope="session")
def server(settings: Settings) -> Iterator[RunningServer]:
    """The finished application behind a real uvicorn on loopback."""
    with RunningServer(settings) as running:
        yield running


@pytest.fixture(scope="session")
def worker(settings: Settings) -> Iterator[RunningWorker]:
    """The background worker, running for as long as the tests do."""
    with RunningWorker(settings) as running:
        yield running


@pytest.fixture(scope="session")
def factory(superuser: asyncpg.Connection[Any], resources: Resources, server: RunningServer) -> Factory:
    return Factory(superuser, resources, server.url)


@pytest.fixture(autouse=True)
def _real_time() -> Iterator[None]:
    yield
    clock.reset()
