"""Run every case and write the tables of docs/performance.md.

One generator process on one core, one server process on the other; the servers are measured in turn, several rounds
each, so that a neighbour who steals a core steals it from all of them. Figures to trust are the ratios. What the plans
need, five processes at once, may use both cores.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from infra.sandbox.proxies import forget_proxies
from load.bench import billing_report, imports, ingest, outgoing, plans, report
from load.bench.acknowledge import acknowledge
from load.bench.cases import Case, cases
from load.bench.generator import Measured, hammer
from load.bench.plant import page_buffers, plant
from load.bench.servers import SERVICE, Server, bare, started
from load.bench.world import World, world
from load.headline.world import world as world_with_stripe
from service.core.settings import get_settings

COMMANDS = {
    "floor": bare("load.bench.floor:app"),
    "unprotected": bare("load.bench.unprotected:app"),
    "service": SERVICE,
}
MACHINE = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


async def measure(server: Server, case: Case, seconds: float) -> Measured:
    """One run, with the server's own CPU time and the statements it sent."""
    call = case.calls[server.name]
    before_cpu, before_statements = server.cpu_seconds(), await server.statements()
    measured = await hammer(server.host, server.port, call, connections=case.connections, seconds=seconds)
    measured.cpu_seconds = server.cpu_seconds() - before_cpu
    measured.statements = (await server.statements() - before_statements) / max(1, measured.requests)
    return measured


async def bench(stage: World, seconds: float, rounds: int) -> report.Results:
    planted = await plant(stage)
    results = report.Results()
    more = {"BENCH_ORGANIZATION": str(planted.organization), "BENCH_SQL": orjson.dumps(planted.statements).decode()}
    async with started(stage, COMMANDS, **more) as servers:
        for case in await cases(planted, servers):
            print(f"{case.name} ...", flush=True)
            for server in servers:
                await hammer(
                    server.host, server.port, case.calls[server.name], connections=2, seconds=min(0.5, seconds)
                )
            for _ in range(rounds):
                for server in servers:
                    results.add(case, server.name, await measure(server, case, seconds))
            results.insist_on_equal_answers(case)
        results.memory_mb = {server.name: server.resident_mb() for server in servers}
        results.buffers = await page_buffers(stage, planted)
    return results


def pages(options: argparse.Namespace) -> str:
    """What people and their programs ask for."""
    with by_itself(pinned=True), world(options.readings) as stage:
        results = asyncio.run(bench(stage, options.seconds, options.rounds))
    return report.render(results, MACHINE)


def billing(options: argparse.Namespace) -> str:
    """What Stripe asks for, and what we ask Stripe for."""
    with by_itself(pinned=True), world(0) as stage:
        acknowledged = asyncio.run(acknowledge(stage, options.seconds, options.rounds))
    with by_itself(), world_with_stripe(seed=1) as busy:
        found = asyncio.run(plans.measure(busy, options.changes, options.seconds, options.rounds))
    return billing_report.render(acknowledged, found, MACHINE)


def files(options: argparse.Namespace) -> str:
    """What people upload."""
    with by_itself(), world(0) as stage:
        found = asyncio.run(imports.measure(stage, options.rows, options.rounds))
    return imports.render(found, MACHINE)


def ingested(options: argparse.Namespace) -> str:
    """What customers' programs send."""
    with by_itself(pinned=True), world(0) as stage:
        runs = asyncio.run(ingest.ingest(stage, options.seconds, options.rounds))
    return ingest.render(runs, MACHINE)


def messages(options: argparse.Namespace) -> str:
    """What we tell customers' servers."""
    with by_itself(), world(0) as stage:
        found = asyncio.run(outgoing.deliver(stage, options.messages))
    return outgoing.render(found, MACHINE)


PARTS = {"pages": pages, "billing": billing, "ingest": ingested, "imports": files, "outgoing": messages}


@contextmanager
def by_itself(*, pinned: bool = False) -> Iterator[None]:
    """Leave nothing of one world to the next. `pinned`: this process keeps to one core, the servers to the other."""
    environment, cores = dict(os.environ), os.sched_getaffinity(0)
    get_settings.cache_clear()
    if pinned:
        os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        os.environ.clear()
        os.environ.update(environment)


def main() -> None:
    forget_proxies()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each case against each server")
    parser.add_argument("--readings", type=int, default=10_000_000, help="readings of the largest indicator")
    parser.add_argument("--changes", type=int, default=20, help="changes of a plan, one at a time")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="rows of imported files")
    parser.add_argument("--messages", type=int, default=1_000, help="outgoing webhooks of one run")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="which tables")
    parser.add_argument("--write", type=Path, help="put the tables between the markers of this file")
    options = parser.parse_args()
    for part in options.parts:
        table = PARTS[part](options)
        print(table)
        if options.write:
            report.write_between_markers(options.write, f"bench {part}", table)


if __name__ == "__main__":
    main()
