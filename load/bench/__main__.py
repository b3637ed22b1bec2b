"""Run every case against the three servers in turn and write the table of docs/performance.md.

One generator process on one core, one server process on the other; the three servers are measured in turn, several
rounds each, so that a neighbour who steals a core steals it from all of them. Figures to trust are the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
from pathlib import Path

import orjson

from load.bench import plant, report
from load.bench.cases import Case, cases
from load.bench.generator import Measured, hammer
from load.bench.servers import SERVICE, Server, bare, started
from load.bench.world import World, world

COMMANDS = {
    "floor": bare("load.bench.floor:app"),
    "unprotected": bare("load.bench.unprotected:app"),
    "service": SERVICE,
}


async def measure(server: Server, case: Case, seconds: float) -> Measured:
    """One run, with the server's own CPU time and the statements it sent."""
    call = case.calls[server.name]
    before_cpu, before_statements = server.cpu_seconds(), await server.statements()
    measured = await hammer(server.host, server.port, call, connections=case.connections, seconds=seconds)
    measured.cpu_seconds = server.cpu_seconds() - before_cpu
    measured.statements = (await server.statements() - before_statements) / max(1, measured.requests)
    return measured


async def bench(stage: World, seconds: float, rounds: int) -> report.Results:
    planted = await plant.plant(stage)
    results = report.Results()
    more = {"BENCH_ORGANIZATION": str(planted.organization), "BENCH_SQL": orjson.dumps(planted.statements).decode()}
    async with started(stage, COMMANDS, **more) as servers:
        for case in await cases(planted, servers):
            print(f"{case.name} ...", flush=True)
            for server in servers:
                await hammer(server.host, server.port, case.calls[server.name], connections=2, seconds=0.5)
            for _ in range(rounds):
                for server in servers:
                    results.add(case, server.name, await measure(server, case, seconds))
            results.insist_on_equal_answers(case)
        results.memory_mb = {server.name: server.resident_mb() for server in servers}
        results.buffers = await plant.page_buffers(stage, planted)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each case against each server")
    parser.add_argument("--readings", type=int, default=10_000_000, help="readings of the largest indicator")
    parser.add_argument("--write", type=Path, help="put the table between the markers of this file")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # the generator's core; servers get the other
    with world(options.readings) as stage:
        results = asyncio.run(bench(stage, options.seconds, options.rounds))
    table = report.render(results, f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(table)
    if options.write:
        report.write_between_markers(options.write, table)


if __name__ == "__main__":
    main()
