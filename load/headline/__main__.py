"""Run the five storms against both, print the table, and write docs/headline.md and docs/headline.svg.

Exit code 1 when ours is wrong about anybody. The seed repeats what customers do and what goes wrong with deliveries
and answers; how the processes are scheduled it cannot repeat.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import asyncpg

from infra.sandbox.proxies import forget_proxies
from load.headline import report
from load.headline.people import make_people
from load.headline.picture import picture
from load.headline.storms import STORMS, UPGRADES_PER_SECOND, Outcome, Storm, quiet, rage
from load.headline.truth import OURS, start_right, wrong
from load.headline.world import World, world
from service.app import close_resources, create_resources
from service.catalog import load_tables
from service.core.settings import get_settings


async def headline(stage: World, count: int, pace: float, storms: Sequence[Storm]) -> list[Outcome]:
    """`count` customers to each storm, at most `pace` of them a second; all are made before the first."""
    load_tables()
    get_settings.cache_clear()
    resources = create_resources(get_settings(), maintenance=True)
    ours, eyes, naive = [
        await asyncpg.connect(url) for url in (stage.superuser_url, stage.superuser_url, stage.naive_url)
    ]
    try:
        people = await make_people(stage, ours, count * len(storms))
        await start_right(naive, people)
        await quiet(stage, ours)
        if astray := await wrong(ours, OURS, people):
            raise SystemExit(f"not even the beginning is right: {astray[:3]}")
        stage.listen_to_all()
        outcomes = []
        for number, storm in enumerate(storms):
            some = people[number * count : (number + 1) * count]
            outcomes.append(await rage(stage, storm, some, ours, naive, eyes, resources, pace))
            print(report.row(outcomes[-1]), flush=True)
        return outcomes
    finally:
        for connection in (ours, eyes, naive):
            await connection.close()
        await close_resources(resources)


def main() -> int:
    forget_proxies()
    parser = argparse.ArgumentParser(prog="python -m load.headline", description=__doc__)
    parser.add_argument("--customers", type=int, default=200, help="in each of the five storms")
    parser.add_argument("--pace", type=float, default=UPGRADES_PER_SECOND, help="customers who upgrade within a second")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000, help="of all chance; random if not given")
    parser.add_argument("--into", type=Path, default=Path("docs"), help="folder for headline.md and headline.svg")
    names = [storm.name for storm in STORMS]
    parser.add_argument("--only", action="append", choices=names, help="this storm; may be given again; else all five")
    given = parser.parse_args()
    storms = [storm for storm in STORMS if storm.name in (given.only or names)]
    busy = os.getloadavg()[0]
    print(f"{given.customers} customers in each storm, seed {given.seed}: a few minutes ...\n", flush=True)
    print(report.HEAD, flush=True)
    with world(given.seed) as stage:
        outcomes = asyncio.run(headline(stage, given.customers, given.pace, storms))
    pace = f"--pace {given.pace:g} " if given.pace != UPGRADES_PER_SECOND else ""
    only = "".join(f"--only {shlex.quote(name)} " for name in given.only or ())
    command = f"python -m load.headline --customers {given.customers} {pace}{only}--seed {given.seed}"
    (given.into / "headline.md").write_text(report.chapter(outcomes, command, busy))
    (given.into / "headline.svg").write_text(picture(outcomes))
    print(f"\n{command}\n{given.into / 'headline.md'} and {given.into / 'headline.svg'} are written.")
    for outcome in outcomes:
        for line in outcome.ours_wrong[:5]:
            print(f"ours, {outcome.storm}: {line}", file=sys.stderr)
    return 1 if any(outcome.ours_wrong for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
