"""Everything of the run: databases, the stand-in for Stripe, the naive app, and the service's own processes.

In a directory that is gone afterwards; nothing of `make run` is touched.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.sandbox.children import Child, wait_until_answers, why_it_died
from infra.sandbox.configuration import ROOT, development_secrets
from infra.sandbox.errors import SandboxError
from infra.sandbox.ports import HOST, free_port
from infra.sandbox.postgres import EmbeddedPostgres
from infra.sandbox.redis import EmbeddedRedis
from infra.sandbox.stripe import endpoints
from infra.sandbox.stripe.server import WEBHOOK_SECRET, StripeStandIn
from load.headline import naive

DATABASE, NAIVE_DATABASE = "headline", "naive"
WORKERS = 2
FIRST_NEWS = ["customer.subscription.updated"]
"""All that ours gets while the customers are made: that somebody's first payment went through."""


class CountingStripe(StripeStandIn):
    """The stand-in, and how often it was asked: `calls` of any kind, `fetches` for one customer's subscriptions."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed=seed)
        self.asked: Counter[str] = Counter()

    def app(self) -> Starlette:
        made = super().app()
        made.add_middleware(_Counting, asked=self.asked)
        return made


class _Counting:
    def __init__(self, app: ASGIApp, asked: Counter[str]) -> None:
        self.app, self.asked = app, asked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            self.asked["calls"] += 1
            self.asked["fetches"] += scope["path"] == "/v1/subscriptions" and b"customer=" in scope["query_string"]
        await self.app(scope, receive, send)


@dataclass(frozen=True)
class World:
    stripe: CountingStripe
    superuser_url: str
    naive_url: str
    """Of the naive app's database."""
    children: list[Child]
    endpoint: str
    """Ours, at Stripe."""
    naive_address: str
    random: Random

    def listen_to_all(self) -> None:
        """From now on ours hears of everything; the naive app hears of what it has handlers for."""
        account = self.stripe.account
        endpoints.update(account, {"enabled_events": ["*"]}, self.endpoint)
        endpoints.add(account, f"{self.naive_address}/webhook", [*naive.HANDLERS], secret=WEBHOOK_SECRET)

    def insist_on_life(self) -> None:
        """Raises SandboxError with the end of the log of whoever died."""
        for child in self.children:
            if not child.is_running:
                raise SandboxError(why_it_died(child))


@contextmanager
def world(seed: int) -> Iterator[World]:
    """Servers that are up and migrated, and five processes that answer."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ballast-headline-")))
        postgres = stack.enter_context(EmbeddedPostgres(directory / "postgres"))
        redis = stack.enter_context(EmbeddedRedis(directory / "redis"))
        stripe = stack.enter_context(CountingStripe(seed))
        postgres.create_database(DATABASE)
        postgres.create_database(NAIVE_DATABASE)
        naive_url = postgres.url("postgres", NAIVE_DATABASE)
        port, naive_port = free_port(), free_port()
        os.environ |= {
            **development_secrets(directory),
            "DATABASE_URL": postgres.url("ballast_app", DATABASE),
            "DATABASE_OWNER_URL": postgres.url("ballast_owner", DATABASE),
            "DATABASE_MAINTENANCE_URL": postgres.url("ballast_maintenance", DATABASE),
            "REDIS_URL": redis.url(),
            "STRIPE_API_BASE": stripe.address,
            "BASE_URL": f"http://{HOST}:{port}",
            "LOG_LEVEL": "WARNING",
            "NAIVE_DATABASE_URL": naive_url,
            "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        }
        from service.core.migrate import upgrade

        upgrade()
        endpoint = endpoints.add(
            stripe.account, f"http://{HOST}:{port}/webhooks/stripe", FIRST_NEWS, secret=WEBHOOK_SECRET
        )
        children: list[Child] = []

        def child(name: str, address: str, *words: str) -> tuple[Child, str]:
            started = Child(name, words, log=directory / f"{name}.log", env=os.environ, cwd=ROOT)
            stack.callback(started.stop)
            children.append(started)
            return started, address

        quiet = ("--no-access-log", "--log-level", "warning")
        app = child(
            "naive", f"http://{HOST}:{naive_port}/",
            "uvicorn", "load.headline.naive:app", "--port", str(naive_port), *quiet,
        )  # fmt: skip
        web = child("web", f"http://{HOST}:{port}/readyz", "service", "serve", "--host", HOST, "--port", str(port))
        workers = [
            child(f"worker-{number}", f"http://{HOST}:{at}/livez", "service", "worker", "--port", str(at))
            for number, at in enumerate([free_port() for _ in range(WORKERS)], 1)
        ]
        for started, address in (app, web, *workers):
            wait_until_answers(address, started)
        yield World(
            stripe,
            postgres.url("postgres", DATABASE),
            naive_url,
            children,
            endpoint["id"],
            app[1].rstrip("/"),
            Random(seed),
        )
