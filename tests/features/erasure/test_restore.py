"""The restore drill: a backup from before an erasure brings the person back, and the ledger takes them away again."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from infra.sandbox.pgwheel import binary
from infra.sandbox.ports import free_port
from service.app import close_resources, create_resources
from service.core import clock
from service.core.context import Resources
from service.core.settings import Environment, Settings
from service.doctor import Trouble, _erasures
from service.features.erasure.flows import arrivals, gate, ledger
from service.features.erasure.flows.machine import replay_all
from tests.features.erasure import canary
from tests.features.erasure.world import World
from tests.support.factories import Person
from tests.support.servers import RunningServer

pytest_plugins = ("tests.guardrails.durability", "tests.features.erasure.planet")
RESTORED = "ballast_restored"


def run(servers: Any, program: str, *arguments: str) -> None:
    address = servers.postgres.url("postgres", "postgres")
    password = address.partition("postgres:")[2].partition("@")[0]
    given = ("-h", "127.0.0.1", "-p", str(servers.postgres.port), "-U", "postgres", *arguments)
    done = subprocess.run(
        [binary(program), *given],
        env={**os.environ, "PGPASSWORD": password},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]


@pytest.fixture
async def restored(
    world: World, person: Person, servers: Any, own_database: str, erasure_settings: Settings, tmp_path: Path
) -> AsyncIterator[tuple[Resources, Settings, asyncpg.Connection[Any]]]:
    """A backup from before the erasure, loaded into a database of its own after it; files are where they were."""
    name, dump = f"{RESTORED}_{own_database}", tmp_path / "backup.dump"
    await world.superuser.execute(
        "INSERT INTO invitations (id, organization_id, email, role, sendings, token_hash, created_at, expires_at)"
        " VALUES (gen_random_uuid(), $1, $2, 'member', 1, '', now(), now() + interval '7 days')",
        (await world.factory.organization()), person.email,
    )  # fmt: skip
    run(servers, "pg_dump", "-Fc", "-f", str(dump), own_database)
    await world.ask(person)
    await world.after_a_day()
    assert not await world.exists(person)
    servers.postgres.create_database(name)
    run(servers, "pg_restore", "--exit-on-error", "--clean", "--if-exists", "-d", name, str(dump))
    roles = {"database_url": "ballast_app", "database_maintenance_url": "ballast_maintenance"}
    addresses = {field: SecretStr(servers.postgres.url(role, name)) for field, role in roles.items()}
    settings = erasure_settings.model_copy(update=addresses)
    resources = create_resources(settings, maintenance=True)
    connection = await asyncpg.connect(servers.postgres.url("postgres", name))
    clock.advance(timedelta(minutes=20))
    yield resources, settings, connection
    await connection.close()
    await close_resources(resources)
    servers.postgres.drop_database(name)


async def test_an_erased_person_stays_erased_after_a_restore(
    world: World, person: Person, restored: tuple[Resources, Settings, asyncpg.Connection[Any]]
) -> None:
    resources, settings, connection = restored
    token = person.email.partition("@")[0]
    assert "users.email" in await canary.in_tables(connection, token), "the backup has brought them back"
    with pytest.raises(Trouble, match="erased people are back: run `python -m service privacy replay-erasures`"):
        await _erasures(settings)
    mails = len(world.sendgrid.sent)
    assert await replay_all(resources) == (1, 0)
    assert not await canary.in_tables(connection, token), "also where only the address was known"
    assert len(world.sendgrid.sent) == mails, "the person was told the first time"
    assert "nobody" in await _erasures(settings)
    assert await replay_all(resources) == (0, 0)
    state = "SELECT state || ' ' || source FROM erasure_requests WHERE user_id = $1"
    assert await connection.fetchval(state, person.id) == "done restore"


async def readiness(server: RunningServer, wanted: int) -> str:
    """What /readyz says of erasures, as soon as it answers so; or what it says after half a minute."""
    async with httpx.AsyncClient(base_url=server.url) as http, asyncio.timeout(30):
        while (answer := await http.get("/readyz")).status_code != wanted or "not been asked" in answer.text:
            await asyncio.sleep(0.05)
    return str(answer.json()["checks"]["erasures"])


async def test_no_web_process_is_ready_while_erased_people_are_back(
    restored: tuple[Resources, Settings, asyncpg.Connection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    resources, settings, _ = restored
    monkeypatch.setattr(gate, "AGAIN_SECONDS", 0.1)
    address = f"http://127.0.0.1:{free_port()}"
    real = settings.model_copy(update={"environment": Environment.PRODUCTION, "base_url": address})
    away = real.model_copy(update={"storage_url": "s3://nowhere/at-all", "storage_endpoint": "http://127.0.0.1:9"})
    with RunningServer(real) as server:
        assert await readiness(server, 503) == gate.BACK
        assert await replay_all(resources) == (1, 0)
        assert await readiness(server, 200) == "ok", "without another start"
    with RunningServer(away) as server:
        assert await readiness(server, 200) == "ok", "an outage of the store is not made one of everything"
    monkeypatch.setattr(gate, "AGAIN_SECONDS", 60)
    with RunningServer(away) as server, httpx.Client(base_url=server.url) as http:
        assert "not been asked" in http.get("/readyz").json()["checks"]["erasures"], "not known is not none"


async def test_somebody_known_by_their_address_alone_goes_again(
    world: World, person: Person, restored: tuple[Resources, Settings, asyncpg.Connection[Any]]
) -> None:
    """The backup is from before they signed up: an invitation is all that it has of them."""
    resources, _, connection = restored
    await connection.execute("DELETE FROM users WHERE id = $1", person.id)
    token = person.email.partition("@")[0]
    assert await canary.in_tables(connection, token) == {"invitations.email"}
    before = await ledger.read(resources, await ledger.known(resources))
    await replay_all(resources)
    assert not await canary.in_tables(connection, token)
    assert await ledger.read(resources, await ledger.known(resources)) == before, "an entry is never changed"


async def test_the_ledger_outlives_every_backup_and_then_goes(world: World, person: Person) -> None:
    await world.ask(person)
    await world.after_a_day()
    request = (await world.request(person))["id"]
    clock.advance(timedelta(days=95))  # the store has its own clock, and says when an object changed
    assert request not in ledger.old(await ledger.known(world.resources))
    assert request in await ledger.known(world.resources)
    assert await arrivals.replay(world.resources) == (0, 0), "what this database knows as done is left alone"
    clock.advance(timedelta(days=10))
    await ledger.forget(world.resources, ledger.old(await ledger.known(world.resources)))
    assert request not in await ledger.known(world.resources)
