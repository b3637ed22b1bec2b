"""Staff look for jobs: what waits, what runs, what was given up on."""

from __future__ import annotations

from csv import reader
from typing import Any
from uuid import UUID

import pytest

from tests.support.client import Client
from tests.support.factories import Factory

PLANTED = """
    INSERT INTO pgqueuer (priority, status, entrypoint, payload, heartbeat, created, updated, execute_after, attempts,
        headers)
    VALUES (0, $1::pgqueuer_status, $2, '{"secret": "never shown"}', now(), now(), now(), now() + interval '1 day', 0,
        jsonb_build_object('tenant', $3::text))
    RETURNING id
"""


@pytest.fixture
async def organization(factory: Factory) -> UUID:
    return await factory.organization()


async def test_jobs_are_found_by_state_and_name_and_show_nothing_of_what_they_carry(
    staff: Client, superuser: Any, organization: UUID
) -> None:
    name = f"planted.job_{organization.hex[-8:]}"
    waiting, failed = [
        await superuser.fetchval(PLANTED, state, name, str(organization)) for state in ("queued", "failed")
    ]
    try:
        found = {state: await staff.page(f"/staff/jobs?state={state}&name={name}") for state in ("waiting", "given_up")}
        assert [f">{number}<" in found["waiting"] for number in (waiting, failed)] == [True, False]
        assert [f">{number}<" in found["given_up"] for number in (waiting, failed)] == [False, True]
        assert "never shown" not in "".join(found.values())
        assert f"/staff/organizations/{organization}" in found["waiting"]
        assert name not in await staff.page("/staff/jobs?state=waiting&name=another.job")
        table = await staff.page(f"/staff/jobs/csv?state=waiting&name={name}")
        assert [row[:2] for row in reader(table.splitlines())][1:] == [[str(waiting), name]]
    finally:
        await superuser.execute("DELETE FROM pgqueuer WHERE entrypoint = $1", name)
    assert "No job" in await staff.page(f"/staff/jobs?state=running&name={name}")
