"""A list that leaves as a file: noted once before it begins, read in few long batches, counted when it ends."""

from __future__ import annotations

import codecs
import csv
import io
from typing import Any

import asyncpg
import orjson
import pytest

from service.guardrails.audit.log import INSERT
from service.guardrails.pagination import BATCH, MOST
from service.web.staff import panel
from tests.conftest import TestServers
from tests.support import captured_sql
from tests.support.client import Client
from tests.support.factories import Factory, Person

NOTED = """
    SELECT action, facts FROM audit_log
    WHERE action LIKE 'staff.export%' AND actor_id = $1 AND request_id = $2 ORDER BY id
"""


async def test_a_long_list_is_noted_when_it_begins_and_counted_when_it_ends(
    factory: Factory, staff: Client, staff_person: Person, superuser: asyncpg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    organization = await factory.organization()
    files = {str(await factory.file(organization)) for _ in range(5)}
    monkeypatch.setattr(panel, "BATCH", 2)
    answer = await staff.get(f"/staff/files/csv?organization_id={organization}")
    assert answer.content.startswith(codecs.BOM_UTF8), "or Excel takes names for its own code page"
    assert "Cut here" not in answer.text
    table = csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig")))
    assert [row["File"] for row in table] == sorted(files, reverse=True)
    noted = await superuser.fetch(NOTED, staff_person.id, answer.headers["x-request-id"])
    assert [row["action"] for row in noted] == ["staff.export", "staff.export_rows"], "however many batches it took"
    assert orjson.loads(noted[1]["facts"]) == {"listing": "/staff/files", "rows": 5}
    # No more than there may be is noted, too.
    monkeypatch.setattr(panel, "MOST_EXPORTED", 4)
    answer = await staff.get(f"/staff/files/csv?organization_id={organization}")
    *rows, last = answer.text.splitlines()
    assert (len(rows), last) == (1 + 4, '"Cut here: a file holds 4 rows, and there are more. Narrow the filters."')
    noted = await superuser.fetch(NOTED, staff_person.id, answer.headers["x-request-id"])
    assert [orjson.loads(row["facts"]).get("rows") for row in noted] == [None, 4]


async def test_the_note_is_written_before_the_first_row_can_leave(
    factory: Factory, staff: Client, staff_person: Person, superuser: asyncpg.Connection[Any],
    servers: TestServers, database_name: str,
) -> None:  # fmt: skip
    organization = await factory.organization()
    file = await factory.file(organization)
    holder = await asyncpg.connect(servers.postgres.url("postgres", database_name))
    try:
        await holder.execute("BEGIN; LOCK TABLE files IN ACCESS EXCLUSIVE MODE")
        async with staff.http.stream("GET", f"/staff/files/csv?organization_id={organization}") as answer:
            [noted] = await superuser.fetch(NOTED, staff_person.id, answer.headers["x-request-id"])
            assert noted["action"] == "staff.export"
            await holder.execute("ROLLBACK")
            assert str(file) in (await answer.aread()).decode()
    finally:
        await holder.close()


async def test_a_list_of_a_thousand_rows_is_read_at_once(
    factory: Factory, staff: Client, superuser: asyncpg.Connection[Any]
) -> None:
    """Two hundred at a time, it was a loop of statements; the check of the suite's statements says so."""
    organization, rows = await factory.organization(), BATCH - 1
    await superuser.execute(
        "INSERT INTO files (id, organization_id, name, kind, key, size, digest, state, finding, active, looks,"
        " next_look_at, checked_at, created_at) SELECT gen_random_uuid(), $1::uuid, 'x', 'txt', $1::uuid::text || n, 1,"
        " '', 'clean', '', false, 1, now(), now(), now() FROM generate_series(1, $2) n",
        organization, rows,
    )  # fmt: skip
    assert rows // MOST > captured_sql.REPEATS
    before = dict(captured_sql.capture.repeated)
    answer = await staff.get(f"/staff/files/csv?organization_id={organization}")
    assert answer.text.count("\n") == 1 + rows
    fresh = {sql for sql, seen in captured_sql.capture.repeated.items() if before.get(sql) != seen}
    assert not {sql for sql in fresh if sql == INSERT or "FROM files" in captured_sql.short(sql)}
    await superuser.execute("DELETE FROM files WHERE organization_id = $1", organization)
