"""A whole service to hurt: a PostgreSQL and a Redis of its own, the stand-ins, web and worker as real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import asyncpg

from infra.sandbox.children import Child, wait_until_answers
from infra.sandbox.configuration import ROOT
from infra.sandbox.mail import MailSink
from infra.sandbox.ports import HOST, free_port
from infra.sandbox.postgres import EmbeddedPostgres
from infra.sandbox.redis import EmbeddedRedis
from infra.sandbox.stripe.clock import DAY
from infra.sandbox.stripe.server import StripeStandIn
from service.app import close_resources, create_resources
from service.core.context import Resources
from service.core.settings import Settings
from tests.support.processes import command
from tests.support.stripe import listen, stock

DATABASE = "storm"
WEB, WORKER = "serve", "worker"


class Part:
    """One of the service's two processes, on a port that stays; every start has a log of its own."""

    def __init__(self, name: str, port: int, directory: Path, environment: dict[str, str]) -> None:
        self.name, self.port = name, port
        self.deaths = self._starts = 0
        self._directory, self._environment = directory, environment
        self._child: Child | None = None

    def start(self) -> None:
        self._starts += 1
        words = ("service", self.name, "--port", str(self.port))
        log = self._directory / f"{self.name}-{self._starts}.log"
        self._child = Child(f"{self.name} {self._starts}", words, log=log, env=self._environment, cwd=ROOT)

    async def answers(self) -> None:
        assert self._child is not None
        await asyncio.to_thread(wait_until_answers, f"http://{HOST}:{self.port}/livez", self._child)

    def kill(self) -> None:
        """SIGKILL: no handler, no `finally`, no farewell to anybody."""
        assert self._child is not None
        os.kill(self._child.pid, signal.SIGKILL)
        self._child.stop()
        self.deaths += 1

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()


@dataclass
class World:
    """What the storm is made of; `told` is its story so far, for whoever has to understand a failure."""

    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    stripe: StripeStandIn
    mailbox: MailSink
    web: Part
    worker: Part
    resources: Resources
    told: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.web.port}"

    @property
    def disasters(self) -> dict[str, Callable[[Random], Awaitable[None]]]:
        return {
            "web killed": lambda random: self._killed(random, self.web),
            "worker killed": lambda random: self._killed(random, self.worker),
            "both killed": lambda random: self._killed(random, self.web, self.worker),
            "PostgreSQL killed": self._lose_postgres,
            "PostgreSQL restarted": self._restart_postgres,
            "Redis flushed": self._flush_redis,
            "Redis away": self._stop_redis,
            "a month passed": lambda _: self._pass_days(31),
            "four days passed": lambda _: self._pass_days(4),
        }

    async def strike(self, random: Random, many: int, alive: Callable[[], Awaitable[None]]) -> None:
        """So many disasters, each once at most, in an order of its own, at moments of its own, where there is life."""
        for name in random.sample(sorted(self.disasters), many):
            await alive()
            await asyncio.sleep(random.uniform(0.3, 2))
            self.told.append(name)
            await self.disasters[name](random)

    async def connect(self) -> asyncpg.Connection[Any]:
        return await asyncpg.connect(self.postgres.url("postgres", DATABASE))

    async def _killed(self, random: Random, *parts: Part) -> None:
        for part in parts:
            await part.answers()  # a start takes seconds, and the other disasters come in the middle of it
            part.kill()
        await asyncio.sleep(random.uniform(0, 1))
        for part in parts:
            part.start()

    async def _lose_postgres(self, random: Random) -> None:
        self.postgres.kill()
        await asyncio.sleep(random.uniform(0, 1))
        self.postgres.start()

    async def _restart_postgres(self, random: Random) -> None:
        self.postgres.stop()
        self.postgres.start()

    async def _flush_redis(self, random: Random) -> None:
        await self.resources.redis.flushall()

    async def _stop_redis(self, random: Random) -> None:
        self.redis.stop()
        await asyncio.sleep(random.uniform(1, 3))
        self.redis.start()

    async def _pass_days(self, days: int) -> None:
        await asyncio.to_thread(self.stripe.account.clock.advance, days * DAY)


@asynccontextmanager
async def world(directory: Path, seed: int) -> AsyncIterator[World]:
    """Migrated, stocked, listening, up."""
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres(directory / "postgres", durable=False))
        redis = stack.enter_context(EmbeddedRedis(directory / "redis"))
        stripe, mailbox = stack.enter_context(StripeStandIn(seed=seed)), stack.enter_context(MailSink())
        postgres.create_database(DATABASE)
        web_port = free_port()
        variables = {
            "BASE_URL": f"http://{HOST}:{web_port}",
            "DATABASE_URL": postgres.url("ballast_app", DATABASE),
            "DATABASE_OWNER_URL": postgres.url("ballast_owner", DATABASE),
            "DATABASE_MAINTENANCE_URL": postgres.url("ballast_maintenance", DATABASE),
            "REDIS_URL": redis.url(),
            "REDIS_NAMESPACE": DATABASE,
            "REDIS_TIMEOUT_MS": "2000",  # two busy cores are no lost Redis; it is stopped when it shall be away
            "SMTP_URL": mailbox.smtp_url,
            "OIDC_ISSUER": "",
            "STRIPE_API_BASE": stripe.address,
            "STRIPE_SECRET_KEY": stripe.secret_key,
            "TRUSTED_PROXIES": "127.0.0.1/32",
            "RATE_LIMIT_SCALE": "1000",
            "LOG_LEVEL": "INFO",
        }
        code, said = await command("migrate", **variables)
        assert code == 0, said
        stock(stripe)
        listen(stripe, variables["BASE_URL"])
        environment = {**os.environ, **variables}
        web, worker = Part(WEB, web_port, directory, environment), Part(WORKER, free_port(), directory, environment)
        for part in (web, worker):
            stack.callback(part.stop)
            part.start()
        settings = Settings.model_validate({name.lower(): value for name, value in variables.items()})
        resources = create_resources(settings, maintenance=True)
        stack.push_async_callback(close_resources, resources)
        for part in (web, worker):
            await part.answers()
        yield World(postgres, redis, stripe, mailbox, web, worker, resources)
