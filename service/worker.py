"""The worker process: runs jobs, seals the audit log, reports that it lives. Run as many as you like.

SIGTERM: picks nothing more, finishes what runs, and hands back what is not done in time; the whole takes at most
GRACEFUL_TIMEOUT_SECONDS. SIGKILL loses nothing: another worker picks the jobs up once their heartbeat is old.

Connections: DATABASE_POOL_SIZE for jobs and the loops beside them, two as the maintenance role, one that listens.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import uvicorn
from starlette.applications import Starlette

from service.app import close_resources, create_resources
from service.catalog import load_tables
from service.core import telemetry
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.database import Database
from service.core.features import load
from service.core.ids import new_id
from service.core.logging import configure_logging, get_logger
from service.core.migrate import head
from service.core.settings import Settings
from service.features import FEATURES
from service.guardrails import audit, invariants, processes
from service.guardrails.jobs.consumer import HAND_BACK_SECONDS, HEARTBEAT_TIMEOUT, consume
from service.guardrails.jobs.registry import GIVEN_UP, JOBS, STANDING, Loop, pause
from service.guardrails.jobs.runner import AWAY, where
from service.guardrails.resealing import MissingKeys, note_keys
from service.integrations.storage import NotStored, Storage, StorageAway

log = get_logger()

SEAL_SECONDS = 2.0
BEAT_SECONDS = 5.0
BEAT = """
    INSERT INTO worker_heartbeats (worker_id, beat_at, seal_lag_seconds) VALUES ($1, now(), $2)
    ON CONFLICT (worker_id) DO UPDATE SET beat_at = excluded.beat_at, seal_lag_seconds = excluded.seal_lag_seconds
"""


async def run(
    settings: Settings, *, host: str = "127.0.0.1", port: int = 0, heartbeat_timeout: timedelta = HEARTBEAT_TIMEOUT
) -> None:
    """Work until SIGTERM, SIGINT or cancellation. Port 0: no probes, no metrics of the jobs that ran here."""
    configure_logging(settings)
    telemetry.configure_tracing(settings)
    _load_jobs()
    resources = create_resources(settings, maintenance=True)
    maintenance = resources.as_maintenance
    try:
        await note_keys(maintenance)
    except AWAY as error:
        log.warning("encryption keys not compared", error=type(error).__name__)
    except MissingKeys as error:
        log.critical("start refused", problem=str(error))
        await close_resources(resources)
        raise
    stop = asyncio.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    worker_id = new_id()

    async def beat() -> None:
        async with maintenance.unit_of_work() as work:
            await work.raw.execute(BEAT, worker_id, await audit.seal_lag(work.raw))

    async def look_at_the_store() -> str:
        try:
            await resources.get(Storage).size("probe/nothing")
        except NotStored:
            return ""
        except StorageAway as error:
            return str(error)
        return ""

    async def seal() -> None:
        await audit.seal(maintenance, settings)

    background = [
        asyncio.create_task(_repeat("heartbeat", beat, BEAT_SECONDS)),
        asyncio.create_task(_repeat("seal", seal, SEAL_SECONDS)),
        asyncio.create_task(telemetry.watch_event_loop()),
        asyncio.create_task(processes.report(resources, "worker", look_at_the_store)),
    ]
    standing = {
        name: asyncio.create_task(_stand(name, body, resources, maintenance, stop)) for name, body in STANDING.items()
    }
    ending = asyncio.create_task(_finish(standing, stop, settings.graceful_timeout_seconds - HAND_BACK_SECONDS))
    background += [*standing.values(), ending]
    if port:
        background.append(asyncio.create_task(_Probes(resources, host, port).serve()))
    log.info("worker started", worker=str(worker_id), jobs=len(JOBS))
    try:
        while not stop.is_set():
            try:
                await consume(resources, maintenance, stop, heartbeat_timeout=heartbeat_timeout)
            except AWAY as error:
                log.error("queue lost, trying again", error=type(error).__name__)
                await pause(stop, 1)
        await ending
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await close_resources(resources)
        await telemetry.stop_tracing()
        log.info("worker stopped", worker=str(worker_id))


async def examine(settings: Settings) -> dict[str, list[object]]:
    """Check every invariant now, outside the queue: what breaks it, by its sentence."""
    _load_jobs()
    resources = create_resources(settings, maintenance=True)
    try:
        async with resources.as_maintenance.unit_of_work() as work:
            broken = await invariants.examine(Context(work, resources, SYSTEM, Caller("command line")))
    finally:
        await close_resources(resources)
    return {found.sentence: broken[name] for name, found in invariants.INVARIANTS.items()}


def _load_jobs() -> None:
    load_tables()
    load(FEATURES, "jobs")


class _Probes(uvicorn.Server):
    """/livez, /readyz and /metrics of this process, which runs the jobs that the web process only counts."""

    def __init__(self, resources: Resources, host: str, port: int) -> None:
        [(_, status)] = load(("status",), "pages")
        app = Starlette(routes=status.infrastructure)
        app.state.resources, app.state.schema_version = resources, head()
        super().__init__(
            uvicorn.Config(app, host, port, lifespan="off", access_log=False, log_config=None, server_header=False)
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM is the worker's: uvicorn's own handler would end the probes and leave the jobs running."""
        yield


async def _repeat(what: str, work: Callable[[], Awaitable[None]], seconds: float) -> None:
    while True:
        try:
            await work()
        except Exception as error:  # the next round tries again; the metric and its alert tell
            log.error("worker task failed", task=what, error=type(error).__name__, where=where(error))
        await asyncio.sleep(seconds)


async def _stand(name: str, body: Loop, resources: Resources, maintenance: Database, stop: asyncio.Event) -> None:
    """Begin again after whatever it failed with: nobody watches a loop that ended."""
    while not stop.is_set():
        try:
            await body(resources, maintenance, stop)
        except Exception as error:
            log.error("worker task failed", task=name, error=type(error).__name__, where=where(error))
            await pause(stop, 1)


async def _finish(standing: dict[str, asyncio.Task[None]], stop: asyncio.Event, seconds: float) -> None:
    """Once told to stop, the time in which each ends its step: a message sent and not written down is sent again."""
    await stop.wait()
    for name in GIVEN_UP & standing.keys():
        standing[name].cancel()
    if standing:
        await asyncio.wait(standing.values(), timeout=max(0, seconds))
