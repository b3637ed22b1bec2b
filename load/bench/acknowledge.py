"""How many webhooks a second are acknowledged, which is verified, saved, marked and committed; beside the floor."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice, product

import asyncpg

from load.bench.deliveries import Deliveries, plant_people
from load.bench.generator import Measured, WrongAnswer, drive
from load.bench.servers import SERVICE, Server, bare, started
from load.bench.world import World

CONNECTIONS = 16
PEOPLE = 2_000
KNOWN = 200
PACE = 200
"""A second: nine times the busiest hour of 10,000 subscribers whose cycles close on the same day."""
FRESH, REPEATED, PACED = "webhooks, each new", "webhooks, all known already", f"webhooks, {PACE} a second"
COMMANDS = {"floor": bare("load.bench.webhook_floor:app"), "service": SERVICE}


@dataclass
class Runs:
    """By the name of the case and of the server."""

    measured: dict[tuple[str, str], list[Measured]] = field(default_factory=dict)

    def of(self, case: str, server: str) -> list[Measured]:
        return self.measured.setdefault((case, server), [])


async def acknowledge(stage: World, seconds: float, rounds: int) -> Runs:
    """Both servers in turn, each case several rounds. Raises WrongAnswer where a row is missing, or one too many."""
    superuser = await asyncpg.connect(stage.superuser_url)
    people = await plant_people(superuser, PEOPLE)
    runs = Runs()
    async with started(stage, COMMANDS, INBOX_POOL_SIZE="4") as servers:
        senders = [(server, Deliveries(people, f"{server.host}:{server.port}")) for server in servers]
        for server, deliveries in senders:
            first = islice(deliveries.fresh(f"{server.name}0"), KNOWN)
            await drive(server.host, server.port, first, connections=CONNECTIONS, seconds=60)
        for number, (server, deliveries) in product(range(1, rounds + 1), senders):
            for case, wires, pace in (
                (FRESH, deliveries.fresh(f"{server.name}{number}"), None),
                (REPEATED, deliveries.known(f"{server.name}0", KNOWN), None),
                (PACED, deliveries.fresh(f"{server.name}paced{number}"), PACE),
            ):
                print(f"{case}, {server.name} ...", flush=True)
                rows, cpu = await _rows(superuser), server.cpu_seconds()
                found = await drive(
                    server.host, server.port, wires, connections=CONNECTIONS, seconds=seconds, rate=pace
                )
                found.cpu_seconds = server.cpu_seconds() - cpu
                _insist_on_rows(case, server, found, await _rows(superuser) - rows)
                runs.of(case, server.name).append(found)
    await superuser.close()
    return runs


def _insist_on_rows(case: str, server: Server, found: Measured, saved: int) -> None:
    """What was acknowledged is saved once; a server that forgets is no floor."""
    if saved != (0 if case == REPEATED else found.requests):
        raise WrongAnswer(f"{case}: {server.name} acknowledged {found.requests} and saved {saved}")


async def _rows(superuser: asyncpg.Connection) -> int:
    return int(await superuser.fetchval("SELECT count(*) FROM inbox"))
