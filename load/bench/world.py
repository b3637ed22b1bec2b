"""Servers of the bench's own, in a directory that is gone afterwards; nothing of `make run` is touched."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.sandbox.collector import Collector
from infra.sandbox.postgres import EmbeddedPostgres
from infra.sandbox.redis import EmbeddedRedis

DATABASE = "bench"


@dataclass(frozen=True)
class World:
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    environment: dict[str, str]
    readings: int

    @property
    def superuser_url(self) -> str:
        return self.postgres.url("postgres", DATABASE)


@contextmanager
def world(readings: int) -> Iterator[World]:
    """An embedded PostgreSQL (durable, as in production) and Redis, migrated."""
    with (
        tempfile.TemporaryDirectory(prefix="ballast-bench-") as directory,
        EmbeddedPostgres(Path(directory) / "postgres") as postgres,
        EmbeddedRedis(Path(directory) / "redis") as redis,
        Collector() as collector,
    ):
        postgres.create_database(DATABASE)
        environment = {
            "DATABASE_URL": postgres.url("ballast_app", DATABASE),
            "DATABASE_OWNER_URL": postgres.url("ballast_owner", DATABASE),
            "DATABASE_MAINTENANCE_URL": postgres.url("ballast_maintenance", DATABASE),
            "REDIS_URL": redis.url(),
            "OTLP_ENDPOINT": collector.address,
            "STORAGE_URL": f"file:{directory}/files",
        }
        os.environ.update(environment)
        from service.core.migrate import upgrade

        upgrade()
        yield World(postgres, redis, environment, readings)
