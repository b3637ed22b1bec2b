"""A person's copy holds each thing we hold about them once, nothing that opens a door, and nobody else."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, JSON, Boolean, Column, DateTime, Enum, Integer, LargeBinary, Numeric, String, Table, Uuid

from service.core import clock
from service.core.database import Base
from service.core.ids import new_id
from service.features.notifications.models import MEMBER_JOINED
from service.features.privacy.flows.contents import OF_THE_LOG, SOMEBODY, columns_of, holdings_of
from service.features.privacy.flows.information import recipients
from service.guardrails.data_map import PROCESSORS, record
from service.guardrails.former_addresses import FormerAddress
from service.guardrails.permissions import Role
from service.guardrails.personal_data import Protection, privacy_of, protection_of
from service.guardrails.sealed import seal
from service.guardrails.subjects import By, Holding, Person, address_hash, subject_of
from tests.features.privacy.conftest import Desk

SECRET, OTHER = "canary-secret", "canary-other"
AS_IT_MUST_BE: dict[str, dict[str, Any]] = {
    "data_exports": {"state": "expired", "asked_at": clock.now()},
    "erasure_requests": {"state": "withdrawn", "source": "person", "finished_at": clock.now()},
    "mail_suppressions": {"cause": "bounce"},
    "sent_mails": {"state": "sent"},
}
"""Words that the service itself reads in such rows, or would begin to work on."""
SKIPPED = {"audit_log"}
"""Rows that only the audit log itself may write; its place in the copy is looked at below."""


class Planter:
    """Writes one row of each personal table, with a token of its own in every text that somebody could read."""

    def __init__(self, desk: Desk, person: Person) -> None:
        self.desk, self.person = desk, person
        self.planted: dict[tuple[str, str, str], str] = {}
        self.email, self.at = person.emails[0], clock.now()
        self.secrets: list[str] = []
        self.rows: dict[str, dict[str, Any]] = {}

    async def plant_under(self, held: Holding, email: str, at: datetime) -> None:
        """One more row, where an address is all that ties it to the person."""
        if held.subject.by in (By.EMAIL, By.ADDRESS_HASH):
            self.email, self.at = email, at
            await self.plant(held)
            self.email = self.person.emails[0]

    async def plant(self, held: Holding) -> None:
        if held.table.name == "users":
            await self._change(held.table)
            return
        if held.table.name in SKIPPED or held.table.name == "memberships":
            return
        values = {column.name: self._value(held, column) for column in held.table.columns}
        for name, value in AS_IT_MUST_BE.get(held.table.name, {}).items():
            values[name] = value
            self.planted.pop((held.table.name, name, self.email), None)
        if held.table.name == FormerAddress.__tablename__:
            [values["until"], email] = self.at, self.person.emails[-1]
            values["email"] = seal(FormerAddress.email, email, values["id"])
            self.planted[held.table.name, "email", self.email] = email
        if held.subject.since:
            values[held.subject.since] = self.at
        self.rows[held.table.name] = values
        names = ", ".join(f'"{name}"' for name in values)
        marks = ", ".join(f"${number + 1}" for number in range(len(values)))
        await self.desk.db.execute(
            f"INSERT INTO {held.table.name} ({names}) OVERRIDING SYSTEM VALUE VALUES ({marks})", *values.values()
        )

    async def _change(self, users: Table) -> None:
        self._token(users.c.name)
        await self.desk.db.execute(
            "UPDATE users SET name = $2, password_hash = $3 WHERE id = $1",
            self.person.id, self.planted["users", "name", self.email], self._secret("password_hash"),
        )  # fmt: skip
        self.planted["users", "email", self.email] = self.email

    def _value(self, held: Holding, column: Column[Any]) -> Any:
        subject = subject_of(held.table)
        if subject is not None and column.name == subject.column:
            return self._way_to_the_person(held, column, subject.by)
        if column.name == "organization_id":
            return self.desk.organization
        for key in column.foreign_keys:
            if key.column.table.name in self.rows:
                return self.rows[key.column.table.name][key.column.name]
        if any(key.column.table.name == "users" for key in column.foreign_keys):
            return None if column.nullable else self.person.id
        if isinstance(column.type, Uuid):
            return new_id()
        if protection_of(column) is Protection.SECRET:
            return (
                self._secret(str(column)).encode()
                if isinstance(column.type, LargeBinary)
                else self._secret(str(column))
            )
        return self._plain(column)

    def _way_to_the_person(self, held: Holding, column: Column[Any], by: By) -> Any:
        if by is By.EMAIL:
            self.planted[held.table.name, column.name, self.email] = self.email
            return self.email
        return address_hash(self.email) if by is By.ADDRESS_HASH else self.person.id

    def _plain(self, column: Column[Any]) -> Any:
        match column.type:
            case Enum():
                return column.type.enums[0]
            case String():
                return self._token(column)
            case DateTime():
                return None if column.nullable else clock.now() + timedelta(days=1)
            case Boolean():
                return False
            case Integer() | Numeric():
                return 1
            case LargeBinary():
                return b"x"
            case ARRAY():
                return []
            case JSON():
                return json.dumps({"said": self._token(column)})
        raise AssertionError(f"say in this test what to plant in {column} ({column.type!r})")

    def _token(self, column: Column[Any]) -> str:
        token = f"c{new_id().hex[-10:]}"[: getattr(column.type, "length", None) or 20]
        privacy = privacy_of(column)
        if privacy is not None and privacy.export and privacy.protection is not Protection.CONTENT:
            self.planted[column.table.name, column.name, self.email] = token
        return token

    def _secret(self, what: str) -> str:
        self.secrets.append(f"{SECRET}-{len(self.secrets)}-{what[-12:]}")
        return self.secrets[-1]


async def test_everything_we_hold_is_in_the_copy_once_and_nothing_else(desk: Desk) -> None:
    former, handed_on = (f"{word}-{new_id().hex}@example.com" for word in ("former", "handed-on"))
    person = Person(desk.owner.id, (desk.owner.email, former))
    planter = Planter(desk, person)
    held = holdings_of(person)
    assert len(held) >= 10
    for each in held:
        await planter.plant(each)
        await planter.plant_under(each, former, planter.at)
    theirs = dict(planter.planted)
    await desk.db.execute(
        "INSERT INTO former_addresses (id, user_id, email, until) VALUES ($1, $2, $3, $4)",
        since := new_id(), person.id, seal(FormerAddress.email, handed_on, since), planter.at - timedelta(days=1),
    )  # fmt: skip
    for each in held:
        await planter.plant_under(each, handed_on, planter.at)
    later = set(planter.planted.values()) - set(theirs.values()) - {handed_on}
    planter.planted = theirs
    found = await desk.copy()
    whole = json.dumps({name: value for name, value in found.items() if name.endswith(".json")})

    beside = {"README.txt", "information.txt", "schema.json", "sessions.json", "staff.json"}
    assert set(found) == beside | {f"{each.table.name}.json" for each in held}
    personal = [key for key in planter.planted if key[0] not in SKIPPED]
    assert len(personal) >= 12
    by_former = {table for table, _, email in personal if email == former}
    assert by_former == {"invitations", "mail_suppressions", "sent_mails"}
    for table, column, email in personal:
        rows = found[f"{table}.json"]
        token = planter.planted[table, column, email]
        assert sum(token in json.dumps(row[column]) for row in rows) == 1, (table, column, email)
        if token not in person.emails:
            assert whole.count(token) == 1, (table, column, email)
    assert len(later) >= 2
    assert [row["email"] for row in found["former_addresses.json"]] == [former, handed_on]
    assert not [token for token in later if token in whole], "what came since is perhaps the next holder's"
    assert planter.secrets
    assert SECRET not in whole
    for each in held:
        exported = {column.name for column in columns_of(each)}
        assert exported == set(found["schema.json"][each.table.name]["fields"])
        assert all(set(row) == exported for row in found[f"{each.table.name}.json"])
    assert [row["role"] for row in found["memberships.json"]] == ["owner"]
    assert any(row["action"] == "privacy.request_export" for row in found["audit_log.json"])
    assert found["sessions.json"][0]["device"]
    assert b"Ballast" in found["README.txt"]
    told = found["information.txt"].decode()
    for one in record.notice(Base.metadata):
        assert f"- {one.meaning}. {one.purpose}. Basis: {one.basis}. Kept: {one.retention[0]}" in told
    assert {"smtp", "sendgrid"} - {one.name for one in recipients(desk.resources.settings)}, "one carrier is not in use"
    for firm in PROCESSORS.values():
        assert (f"- {firm.title}. For: " in told) is (firm in recipients(desk.resources.settings)), firm.name
    assert "supervisory authority" in told


async def test_other_people_are_left_out(desk: Desk) -> None:
    colleague = await desk.factory.person(Role.MEMBER, desk.organization)
    await desk.db.execute("UPDATE users SET name = $2 WHERE id = $1", colleague.id, OTHER)
    news = (
        "INSERT INTO notifications (id, organization_id, user_id, kind, text, href, key, created_at)"
        " VALUES ($1, $2, $3, $4, $5, '/members', $6, now())"
    )
    told = f"{OTHER} has joined as member."
    await desk.db.execute(news, new_id(), desk.organization, desk.owner.id, MEMBER_JOINED.name, told, "1")
    written = f"The list for {colleague.email} and {desk.owner.email} has ended."
    await desk.db.execute(news, new_id(), desk.organization, desk.owner.id, "import_finished", written, "2")
    await desk.db.execute(news, new_id(), desk.organization, colleague.id, "import_finished", f"{OTHER} done", "3")
    await desk.db.execute(
        "INSERT INTO support_visits (id, organization_id, person_id, staff_id, reason, began_at, ends_at)"
        " VALUES ($1, $2, $3, $4, 'Their import shows nothing', now(), now())",
        new_id(), desk.organization, desk.owner.id, colleague.id,
    )  # fmt: skip
    await invite(desk, desk.owner.email, by=colleague.id)
    await invite(desk, "stranger@example.com", by=desk.owner.id)

    found = await desk.copy()
    whole = json.dumps({name: value for name, value in found.items() if name.endswith(".json")})
    [visit] = found["support_visits.json"]
    assert (visit["reason"], visit["staff_id"]) == ("Their import shows nothing", SOMEBODY), "who came is left out"
    assert visit["person_id"] == str(desk.owner.id)
    assert visit["began_at"]
    for theirs in (OTHER, colleague.email, str(colleague.id), "stranger@example.com"):
        assert theirs not in whole
    texts = [row["text"] for row in found["notifications.json"]]
    assert f"The list for [somebody else] and {desk.owner.email} has ended." in texts
    assert [row["invited_by"] for row in found["invitations.json"]] == ["[somebody else]"]


async def test_a_look_by_staff_is_in_the_copy_of_whom_they_looked_at(
    desk: Desk,
) -> None:
    colleague = await desk.factory.person(Role.OWNER, staff=True)
    path, why = f"/staff/people/{desk.owner.id}", "Miss Canary has rung, ticket 4711"
    async with await desk.factory.client(colleague, "password", "totp") as browser:
        assert (await browser.submit("/staff/reasons", page="/staff", next=path, reason=why)).status_code == 303
        assert (await browser.get(path)).status_code == 200
        assert (
            await browser.submit(f"{path}/end-sessions", page=f"{path}/end-sessions", reason=why)
        ).status_code == 303
        found = await Desk(desk.factory, desk.resources, desk.maintenance, colleague, browser).copy()
    rows = found["audit_log.json"]
    assert {"staff.read_personal", "staff.enter"} <= {row["action"] for row in rows}
    assert any(row["address_prefix"] for row in rows)
    assert str(desk.owner.id) not in json.dumps(rows)
    assert "Canary" not in json.dumps(rows)
    assert set(rows[0]) == OF_THE_LOG == set(found["schema.json"]["audit_log"]["fields"])
    assert found["staff.json"] == [], "what they did themselves is not what staff did to them"

    async with await desk.factory.client(desk.owner) as again:
        theirs = await replace(desk, browser=again).copy()
    looked, *others = theirs["staff.json"]
    assert (looked["who"], looked["what"], looked["why"]) == ("a member of our staff", "staff.read_personal", why)
    assert datetime.fromisoformat(looked["at"]) <= clock.now()
    assert [(row["what"], row["why"]) for row in others] == [("accounts.end_sessions_of", "")]
    for name in (str(colleague.id), colleague.email):
        assert name not in json.dumps({key: value for key, value in theirs.items() if key.endswith(".json")})


async def test_an_address_that_was_never_confirmed_finds_nothing(desk: Desk) -> None:
    """Anybody can type in somebody else's address: what was sent to it is not theirs."""
    await invite(desk, desk.owner.email, by=desk.owner.id)
    await desk.db.execute("UPDATE users SET email_verified_at = NULL WHERE id = $1", desk.owner.id)
    assert (await desk.copy())["invitations.json"] == []


async def test_it_bites_without_the_filter_by_person_everybody_is_in_the_copy(desk: Desk) -> None:
    """The condition of the map is what keeps others out: without it, the same reading finds them."""
    person = Person(desk.owner.id, (desk.owner.email,))
    users = next(each for each in holdings_of(person) if each.table.name == "users")
    await desk.db.execute(
        "INSERT INTO users (id, email, name, created_at) VALUES ($1, $2, 'Other', now())",
        other := new_id(), f"{other}@example.com",
    )  # fmt: skip
    async with desk.maintenance.unit_of_work(read_only=True) as work:
        mine = (await work.session.execute(users.table.select().where(users.where))).all()
        some = users.table.select().order_by(users.table.c.id.desc()).limit(2)
        unfiltered = (await work.session.execute(some)).all()
    assert [row.id for row in mine] == [desk.owner.id]
    assert {row.id for row in unfiltered} - {desk.owner.id}


async def invite(desk: Desk, email: str, *, by: UUID) -> None:
    expires: datetime = clock.now() + timedelta(days=7)
    await desk.db.execute(
        "INSERT INTO invitations (id, organization_id, email, role, invited_by, sendings, token_hash, created_at,"
        " expires_at) VALUES ($1, $2, $3, 'member', $4, 1, $5, now(), $6)",
        new_id(), desk.organization, email, by, new_id().bytes, expires,
    )  # fmt: skip


def test_every_table_about_people_is_in_the_copy_or_says_why_not() -> None:
    person = Person(new_id(), ("a@example.com",))
    shown = {each.table.name for each in holdings_of(person)}
    left_out = {
        table.name for table in Base.metadata.sorted_tables if (one := subject_of(table)) and one.by is By.MENTION
    }
    assert left_out == {"inbox"}, "copies of others' messages: withheld, with the reason in the map"
    assert "inbox" not in shown
