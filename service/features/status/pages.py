"""Is it alive, can it serve, what runs here, how is it doing: for load balancers, operators and Prometheus.

These routes must answer when PostgreSQL, Redis or the session store are away, so they take no context: they know no
person and no organization and open no transaction. They stand in `infrastructure`, which app.py adds to the
application as it is; the architecture tests allow routes without a context in this list and nowhere else.
"""

from __future__ import annotations

import asyncio
import hmac
import math
from collections.abc import Awaitable, Callable
from functools import lru_cache

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.core import migrate, telemetry
from service.core.context import Resources
from service.core.logging import get_logger
from service.features.erasure.flows.gate import Gate
from service.guardrails import invariants, jobs, sessions

log = get_logger()

MEASURES_AT_ONCE = 2
DEADLINE_SECONDS = 1.0
"""For each check: a probe that hangs is worth less than one that says no."""

database_up = Gauge("database_up", "1 when PostgreSQL answered the last scrape", registry=telemetry.REGISTRY)

JOB_GAUGES = (
    telemetry.jobs_ready,
    telemetry.jobs_oldest_age,
    telemetry.jobs_failed,
    telemetry.worker_heartbeat_age,
    telemetry.audit_seal_lag,
)

Check = Callable[[Resources], Awaitable[str]]
"""Returns what is wrong in one sentence, or nothing."""
Measure = Callable[[Resources], Awaitable[None]]


async def live(request: Request) -> Response:
    """The process runs and its event loop turns. Nothing else: a lost Redis must not get every process restarted."""
    return _json({"status": "alive"})


async def ready(request: Request) -> Response:
    """Send traffic here? Each dependency with its own answer; 503 while any of them says no."""
    resources: Resources = request.app.state.resources
    answers = await asyncio.gather(*(_answer(check, resources) for check in CHECKS.values()))
    checks = {name: problem or "ok" for name, problem in zip(CHECKS, answers, strict=True)}
    fine = not any(answers)
    return _json({"status": "ready" if fine else "not ready", "checks": checks}, 200 if fine else 503)


async def version(request: Request) -> Response:
    """Which build answers, and which schema it was written for; no names of libraries, they are a map for attackers."""
    resources: Resources = request.app.state.resources
    return _json({"revision": resources.settings.revision, "schema_version": request.app.state.schema_version})


async def metrics(request: Request) -> Response:
    """Prometheus text for whoever holds METRICS_TOKEN.

    401 and not a disguised 404: the address is no secret, and a wrong token must look like one to the operator.
    """
    resources: Resources = request.app.state.resources
    expected = f"Bearer {resources.settings.metrics_token.get_secret_value()}"
    sent = request.headers.get("authorization", "")
    if not hmac.compare_digest(sent.encode("utf-8", "replace"), expected.encode()):
        return Response("Send METRICS_TOKEN as a bearer token.\n", 401, {"WWW-Authenticate": "Bearer"}, "text/plain")
    await asyncio.gather(_measure_database(resources), _measure_redis(resources))
    return Response(generate_latest(telemetry.REGISTRY), media_type=CONTENT_TYPE_LATEST)


infrastructure = [
    Route("/livez", live, methods=["GET"]),
    Route("/readyz", ready, methods=["GET"]),
    Route("/version", version, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
]


async def _database(resources: Resources) -> str:
    async with resources.database.connection() as connection:
        await connection.exec_driver_sql("SELECT 1")
    return ""


async def _schema(resources: Resources) -> str:
    """Behind the code is not ready; ahead of it is: migrations run before the release, with the old code serving."""
    async with resources.database.connection() as connection:
        found = (await connection.exec_driver_sql("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    if found is None or found in _older_revisions():
        return "The database is behind this code. Run the migrate command."
    return ""


async def _redis(resources: Resources) -> str:
    await resources.redis.ping()
    return ""


async def _erasures(resources: Resources) -> str:
    return resources.get(Gate).problem


CHECKS: dict[str, Check] = {"database": _database, "schema": _schema, "redis": _redis, "erasures": _erasures}


async def _answer(check: Check, resources: Resources) -> str:
    """One check within its deadline; whatever it raises is an answer too, and its text stays in our log."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await check(resources)
    except TimeoutError:
        return f"No answer within {DEADLINE_SECONDS:g} s."
    except Exception as error:
        log.warning("not ready", check=check.__name__.lstrip("_"), error=type(error).__name__)
        return "Not reachable."


@lru_cache(maxsize=1)
def _older_revisions() -> frozenset[str]:
    """Every revision this code knows, without the one it was written for."""
    return frozenset(migrate.revisions()) - {migrate.head()}


async def _measure_database(resources: Resources) -> None:
    """Each measure has the deadline for itself: one that takes long must not make the others unknown."""
    measures, places = (jobs.measure, invariants.measure, *telemetry.measures), asyncio.Semaphore(MEASURES_AT_ONCE)
    up = not await _answer(_database, resources)
    database_up.set(up)
    measured = await asyncio.gather(*(_measure(one, resources, places) for one in measures if up))
    if not up or not measured[0]:
        # Yesterday's number would look like today's: not known is not known.
        for gauge in JOB_GAUGES:
            gauge.set(math.nan)


async def _measure(measure: Measure, resources: Resources, places: asyncio.Semaphore) -> bool:
    async with places:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await measure(resources)
        except Exception as error:
            log.warning("not measured", measure=measure.__module__, error=type(error).__name__)
            return False
    return True


async def _measure_redis(resources: Resources) -> None:
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await sessions.refresh_gauge(resources)
        telemetry.redis_up.set(1)
    except Exception as error:
        log.warning("sessions not measured", error=type(error).__name__)
        telemetry.redis_up.set(0)
        telemetry.sessions_active.set(math.nan)


def _json(body: dict[str, object], status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, {"Cache-Control": "no-store"}, "application/json")
