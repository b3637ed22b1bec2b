"""The owner reads, filters and exports the organization's log; nobody else does; and reading leaves a trace."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from service.core.ids import new_id
from service.features import FEATURES
from service.features.audit_log import queries
from service.features.audit_log.schemas import describe
from service.guardrails.actions import RULES
from service.guardrails.permissions import Role
from tests.support.client import Client
from tests.support.factories import Factory, Person

API = "/audit_log"


@dataclass
class House:
    organization: UUID
    owner: Person
    client: Client
    factory: Factory
    superuser: asyncpg.Connection[Any]
    stack: AsyncExitStack

    async def browser(self, role: Role, organization: UUID | None = None) -> Client:
        person = await self.factory.person(role, organization or self.organization)
        return await self.stack.enter_async_context(await self.factory.client(person))

    async def row(self, action: str = "indicators.archive", **columns: Any) -> UUID:
        """A row of the log, planted; ids are in order of time, so an older row needs an older id."""
        at = columns.pop("at", datetime.now(UTC))
        identifier = UUID(int=(int(at.timestamp() * 1000) << 80) | (new_id().int & ((1 << 80) - 1)))
        values = {
            "id": identifier, "at": at, "organization_id": self.organization, "actor_kind": "user",
            "actor_id": self.owner.id, "action": action, "object_type": "indicators", "object_id": new_id(),
            "outcome": "done", "reason": "", "request_id": "r", "session_ref": "", "address_prefix": "10.0.0.0/24",
            "changes": "{}", "facts": "{}", "row_hash": b"planted", **columns,
        }  # fmt: skip
        marks = ", ".join(f"${n + 1}" for n in range(len(values)))
        await self.superuser.execute(f"INSERT INTO audit_log ({', '.join(values)}) VALUES ({marks})", *values.values())
        return identifier

    async def entries(self, query: str = "") -> list[dict[str, Any]]:
        """What the API shows, without the traces that looking leaves."""
        answer = await self.client.api("GET", f"{API}?{query}")
        assert answer.status_code == 200, answer.text
        return [entry for entry in answer.json()["items"] if not entry["action"].startswith("audit_log.")]


@pytest.fixture
async def house(factory: Factory, superuser: asyncpg.Connection[Any]) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        owner = await factory.person(Role.OWNER)
        assert owner.organization_id is not None
        client = await stack.enter_async_context(await factory.client(owner))
        yield House(owner.organization_id, owner, client, factory, superuser, stack)


async def test_what_happened_stands_in_the_log_with_before_and_after(house: House) -> None:
    await house.client.submit("/organization", name="Before")
    await house.client.submit("/organization", name="After")
    newest, older = await house.entries()
    name = await house.superuser.fetchval("SELECT name FROM users WHERE id = $1", house.owner.id)
    assert newest["sentence"] == f"{name} renamed an organization"
    assert newest["changes"] == [{"field": "name", "before": "Before", "after": "After"}]
    assert older["changes"][0]["after"] == "Before"
    page = await house.client.page("/audit-log")
    assert "renamed an organization" in page
    assert "Before" in page


async def test_a_role_change_is_told_in_words(house: House) -> None:
    member = await house.factory.person(Role.MEMBER, house.organization)
    membership = await house.superuser.fetchval("SELECT id FROM memberships WHERE user_id = $1", member.id)
    await house.client.submit(f"/members/{membership}/role", page="/members", role="admin")
    (entry,) = await house.entries()
    assert entry["sentence"].endswith("changed the role of a member")
    assert entry["changes"] == [{"field": "role", "before": "member", "after": "admin"}]


async def test_a_refusal_is_told_as_one(house: House) -> None:
    viewer = await house.browser(Role.VIEWER)
    await viewer.post("/members/invitations", csrf=viewer.csrf, email="a@example.com", role="viewer")
    (entry,) = await house.entries()
    assert entry["outcome"] == "denied"
    assert entry["sentence"].endswith("tried to invite somebody and was refused")


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MEMBER, Role.ADMIN])
async def test_only_the_owner_reads_it(house: House, role: Role) -> None:
    client = await house.browser(role)
    assert (await client.api("GET", API)).status_code == 403
    for path in ("/audit-log", "/audit-log/export/csv", "/audit-log/export/json"):
        assert (await client.get(path)).status_code == 403, path
    assert "/audit-log" not in await client.page("/members")


async def test_no_line_of_another_organization_is_in_it(house: House, factory: Factory) -> None:
    canary = await house.row(changes=json.dumps({"name": [None, "canary-of-others"]}))
    async with await factory.client(await factory.person(Role.OWNER)) as stranger:
        for query in ("", f"actor={house.owner.id}", "action=indicators.archive"):
            shown = await stranger.api("GET", f"{API}?{query}")
            assert str(canary) not in shown.text
        for path in ("/audit-log", "/audit-log/export/csv", "/audit-log/export/json"):
            assert "canary-of-others" not in (await stranger.get(path)).text


async def test_looking_leaves_a_trace(house: House) -> None:
    await house.client.page("/audit-log")
    await house.client.get("/audit-log/export/csv?action=indicators.archive")
    answer = await house.client.api("GET", API)
    export, read = answer.json()["items"]
    assert (export["action"], export["facts"]) == ("audit_log.export", {"filters": {"action": "indicators.archive"}})
    assert read["action"] == "audit_log.read"
    assert read["sentence"].endswith("read the audit log")


async def test_pages_are_newest_first_and_complete(house: House) -> None:
    start = datetime.now(UTC) - timedelta(days=2)
    planted = [await house.row(at=start + timedelta(seconds=n)) for n in range(25)]
    seen: list[str] = []
    query = f"limit=10&action=indicators.archive&until={start + timedelta(days=1):%Y-%m-%d}"
    cursor = ""
    while True:
        page = (await house.client.api("GET", f"{API}?{query}{cursor}")).json()
        seen += [entry["id"] for entry in page["items"]]
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == [str(identifier) for identifier in reversed(planted)]


async def test_filters_by_action_actor_and_period(house: House) -> None:
    day = datetime(2026, 3, 10, 12, tzinfo=UTC)
    early = await house.row("indicators.archive", at=day)
    late = await house.row("indicators.restore", at=day + timedelta(days=2))
    other = await house.factory.person(Role.MEMBER, house.organization)
    theirs = await house.row("indicators.archive", at=day + timedelta(days=1), actor_id=other.id)

    async def ids(query: str) -> list[str]:
        return [entry["id"] for entry in await house.entries(query)]

    assert await ids("until=2026-03-12") == [str(late), str(theirs), str(early)]
    assert await ids("action=indicators.archive") == [str(theirs), str(early)]
    assert await ids(f"actor={other.id}") == [str(theirs)]
    assert await ids(f"actor={house.owner.id}&action=indicators.archive") == [str(early)]
    assert await ids("since=2026-03-11&until=2026-03-11") == [str(theirs)]
    assert await ids("since=2026-03-10&until=2026-03-10") == [str(early)], "both days are included"
    empty = await ids("since=&until=&action=&actor=")
    assert empty == [str(late), str(theirs), str(early)], "empty fields filter nothing"


@pytest.mark.parametrize(
    "query",
    ["since=yesterday", "until=2026-13-01", "actor=me", "action='; DROP TABLE audit_log", "action=" + "a" * 200,
     "since=0001-01-01&until=9999-12-31"],
)  # fmt: skip
async def test_a_wrong_filter_is_no_server_error(house: House, query: str) -> None:
    for path in (f"/api/v1{API}", "/audit-log", "/audit-log/export/csv"):
        assert (await house.client.get(f"{path}?{query}", headers=house.client.bearer)).status_code in (200, 422), path


async def test_an_unknown_format_is_not_found(house: House) -> None:
    assert (await house.client.get("/audit-log/export/xlsx")).status_code == 404


async def test_the_csv_runs_in_no_spreadsheet(house: House) -> None:
    nasty = ['=HYPERLINK("http://evil")', "+1", "-1+cmd|'/c calc'!A0", "@SUM(1)", "\t=1", "\r=1", "a;=1"]
    for text in nasty:
        await house.row(reason=text)
    await house.superuser.execute("UPDATE users SET name = '=cmd()' WHERE id = $1", house.owner.id)
    answer = await house.client.get("/audit-log/export/csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="audit-log.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert len([row for row in rows if row["action"] == "indicators.archive"]) == len(nasty)
    cells = [cell for row in rows for cell in row.values()]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert {f"'{nasty[0]}", "a;'=1"} <= set(cells)
    assert all(line.startswith('"') for line in answer.text.split("\r\n")[:-1]), (
        "where the semicolon splits, quotes hold"
    )


async def test_exports_hold_more_than_a_page_in_both_formats(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    count = queries.BATCH + 7
    moment = datetime.now(UTC) - timedelta(hours=1)
    await house.superuser.execute(
        "INSERT INTO audit_log (id, at, organization_id, actor_kind, action, object_type, outcome, reason, request_id,"
        " session_ref, address_prefix, changes, facts, row_hash)"
        " SELECT overlay(gen_random_uuid()::text placing $3::text from 1 for 13)::uuid, $2, $1, 'system',"
        " 'indicators.archive', '', 'done', n::text, '', '', '', '{}', '{}', '' FROM generate_series(1, $4) AS n",
        house.organization,
        moment,
        f"{int(moment.timestamp() * 1000):012x}"[:8] + "-" + f"{int(moment.timestamp() * 1000):012x}"[8:],
        count,
    )
    wanted = sorted(str(n) for n in range(1, count + 1))
    exported = (await house.client.get("/audit-log/export/json?action=indicators.archive")).json()
    assert sorted(entry["reason"] for entry in exported) == wanted
    text = (await house.client.get("/audit-log/export/csv?action=indicators.archive")).text
    assert sorted(row["reason"] for row in csv.DictReader(io.StringIO(text))) == wanted
    # A file that ends before the log does says so.
    monkeypatch.setattr(queries, "MOST_EXPORTED", queries.BATCH)
    *rows, last = (await house.client.get("/audit-log/export/json?action=indicators.archive")).json()
    assert (len(rows), "there are more" in last["cut"]) == (queries.BATCH, True)
    lines = (await house.client.get("/audit-log/export/csv?action=indicators.archive")).text.splitlines()
    assert (len(lines), "there are more" in lines[-1]) == (1 + queries.BATCH + 1, True)


async def test_an_empty_export_is_valid_too(house: House) -> None:
    query = "until=2020-01-01"
    assert (await house.client.get(f"/audit-log/export/json?{query}")).json() == []
    assert len((await house.client.get(f"/audit-log/export/csv?{query}")).text.splitlines()) == 1


async def test_exports_are_rationed(house: House) -> None:
    answers = [await house.client.get("/audit-log/export/csv?until=2020-01-01") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert int(answers[-1].headers["retry-after"]) > 0


async def test_markup_in_the_log_is_text(house: House) -> None:
    await house.row(reason="<script>alert(1)</script>", changes=json.dumps({"name": ["<b>", "<img src=x>"]}))
    page = await house.client.page("/audit-log")
    assert "<script>alert" not in page
    assert "<img src=x" not in page


async def test_somebody_who_left_has_no_name_in_it(house: House) -> None:
    person = await house.factory.person(Role.MEMBER, house.organization)
    await house.row(actor_id=person.id)
    await house.superuser.execute("UPDATE users SET deleted_at = now() WHERE id = $1", person.id)
    (entry,) = await house.entries()
    assert entry["sentence"] == "A former user archived an indicator"


def test_every_action_has_a_sentence_that_reads() -> None:
    writes = [name for name, rule in RULES.items() if rule.writes and name.split(".")[0] in FEATURES]
    assert len(writes) >= 30
    for name in writes:
        sentence = describe(name)
        assert len(sentence.split()) >= 2, f"{name}: {sentence}"
        assert "_" not in sentence
        assert "  " not in sentence


@pytest.mark.parametrize(
    ("asked", "message"),
    [("since=2026-02-30", "Enter a date like"), ("until=soon&action=indicators.archive", "Enter a date like")],
)
async def test_wrong_filters_come_back_with_the_reason_beside_the_field(house: House, asked: str, message: str) -> None:
    await house.row()
    answer = await house.client.get(f"/audit-log?{asked}")
    assert answer.status_code == 422
    assert message in answer.text.partition('class="error"')[2]
    assert f'value="{asked.split("=")[1].split("&")[0]}"' in answer.text
    assert "archived an indicator" not in answer.text, "all of the log would pass for what was asked"
    assert "/audit-log/export" not in answer.text
    assert ('value="indicators.archive" selected' in answer.text) == ("action" in asked)
