"""Where the attacks happen: an organization to attack from, one that must not be reached, and a look at all it has."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import httpx

from service.core.ids import new_id
from service.guardrails.permissions import Role
from service.guardrails.rate_limits import API, READ, WRITE, Policy
from tests.abuse.judge import Sent, complaints
from tests.architecture.conftest import Route
from tests.architecture.planted import Owner, address
from tests.support.client import Client
from tests.support.factories import Factory, Person

SWAP_AFTER, SWAP_SOON = 45, 4
"""Requests of one person: nobody is to be refused for asking often, where it is the asking that is judged."""
IN_THE_WINGS = 16
PLENTY = {"api_per_minute": 1_000_000, "seats": 100_000, "indicators": 100_000, "sources": 100_000}
AS_A_PART = "a fragment is asked for"
"""No form of ours asks for one; what comes back is judged for markup, not for its words."""
MOVES_BY_ITSELF = {"api_keys", "audit_log", "notifications"}
"""A key's last use, refusals on record, and news that a job may be writing: no sign that an attack went through."""

CAME_TO_NOTHING = {"files": "state = 'abandoned'"}
"""Rows that only say that something was tried, and hold nothing of it."""


class World:
    """Two organizations; what is told about the second is a finding."""

    def __init__(self, factory: Factory, stack: AsyncExitStack) -> None:
        self.factory, self.stack = factory, stack
        self.found: list[str] = []
        self.sent = 0
        self.wings: list[Person] = []
        self.taken: set[str] = set()
        """Where at least one request went through: an attack on what refuses everything proves nothing."""
        self.no_form: set[str] = set()
        """Addresses whose form no page showed: what their page says of a mistake has no place to stand."""

    async def begin(self) -> World:
        self.home, self.canary = await self.factory.organization(), f"canary-{new_id().hex}"
        self.canaries: tuple[str, ...] = (self.canary,)
        self.elsewhere = await self.factory.organization(self.canary)
        for organization in (self.home, self.elsewhere):
            await self.factory.plan(organization, limits=PLENTY)
        await self.factory.indicator(self.elsewhere, f"{self.canary}-indicator")
        await self.factory.person(Role.OWNER, self.elsewhere)
        self.tables = [
            row["table_name"]
            for row in await self.factory.superuser.fetch(
                "SELECT c.table_name FROM information_schema.columns c JOIN information_schema.tables t"
                " USING (table_schema, table_name) WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE'"
                " AND c.column_name = 'organization_id' ORDER BY 1"
            )
            if row["table_name"] not in MOVES_BY_ITSELF
        ]
        assert len(self.tables) >= 15, f"the scan saw only {self.tables}"
        return self

    async def rows(self, organization: UUID | None = None) -> dict[str, str]:
        """What each table holds of an organization, as one hash; also that each of its people is who they were."""
        parts = [
            f"SELECT '{table}', md5(coalesce(string_agg(md5(t::text), '' ORDER BY md5(t::text)), ''))"
            f" FROM {table} t WHERE organization_id = $1 AND NOT ({CAME_TO_NOTHING.get(table, 'false')})"
            for table in self.tables
        ]
        parts.append("SELECT 'organizations', md5(t::text) FROM organizations t WHERE id = $1")
        parts.append(
            "SELECT 'users', md5(coalesce(string_agg(md5((to_jsonb(u) - 'is_staff')::text), '' ORDER BY u.id), ''))"
            " FROM users u WHERE id IN (SELECT user_id FROM memberships WHERE organization_id = $1)"
        )
        found = await self.factory.superuser.fetch(" UNION ALL ".join(parts), organization or self.home)
        return {row[0]: row[1] for row in found}

    async def before(self) -> dict[str, str]:
        """The rows as they are now; with enough people in the wings, who would be rows of their own."""
        while len(self.wings) < IN_THE_WINGS:
            self.wings.append(await self.factory.person(Role.OWNER, self.home))
        return await self.rows()

    async def keeps(self, text: str) -> list[str]:
        """Which tables hold this text of the attackers' organization, wherever."""
        parts = [
            f"SELECT '{table}' WHERE EXISTS"
            f" (SELECT 1 FROM {table} t WHERE organization_id = $1 AND position($2 in t::text) > 0)"
            for table in (*self.tables, *sorted(MOVES_BY_ITSELF))
        ]
        found = await self.factory.superuser.fetch(" UNION ALL ".join(parts), self.home, text)
        return [row[0] for row in found]

    async def somebody(self, *, staff: bool = False) -> Person:
        person = self.wings.pop() if self.wings else await self.factory.person(Role.OWNER, self.home)
        if staff:
            await self.factory.superuser.execute("UPDATE users SET is_staff = true WHERE id = $1", person.id)
        return person

    async def browser(self, person: Owner) -> Client:
        client: Client = await self.stack.enter_async_context(
            await self.factory.client(person, *(("password", "totp") if person else ()))
        )
        return client

    async def path(self, route: Route, organization: UUID, person: Owner) -> str:
        return await address(route, self.factory, organization, person)

    def judge(self, answer: httpx.Response, sent: Sent) -> None:
        self.sent += 1
        if answer.status_code < 300 or answer.status_code == 303:
            self.taken.add(sent.where)
        # Once something was done, its page may have no form any more that could say what was wrong with another try.
        over = sent.where in self.taken | self.no_form or sent.what == AS_A_PART
        unsaid = "without saying how" if over else "\0"
        self.found += [one for one in complaints(answer, sent, self.canaries) if unsaid not in one]

    def report(self) -> str:
        return f"{len(self.found)} findings of {self.sent} attacks:\n" + "\n".join(self.found[:80])

    async def unchanged(self, before: dict[str, str], where: str) -> None:
        now = await self.rows()
        if changed := [table for table in now if now[table] != before[table]]:
            self.found.append(f"{where}: everything was refused, and yet {changed} changed")


class Crowd:
    """Attackers who take turns, each with an address, a session and a key of their own."""

    def __init__(self, world: World, policy: Policy, *, nobody: bool = False, staff: bool = False) -> None:
        self.world, self.nobody, self.staff = world, nobody, staff
        self.policy, self.most = policy, SWAP_AFTER if policy in (READ, WRITE, API) else SWAP_SOON
        self.left = 0
        self.client: Client

    async def next(self) -> Client:
        if self.left == 0:
            person = None if self.nobody else await self.world.somebody(staff=self.staff)
            self.client, self.left = await self.world.browser(person), self.most
            if self.most == SWAP_SOON:
                await self.rest()
            if self.nobody:
                page = await self.client.http.get("/forgot")
                self.client.csrf = page.text.partition('name="csrf" value="')[2].partition('"')[0]
        self.left -= 1
        return self.client

    async def rest(self) -> None:
        """Some limits count a whole organization: what the ones before have used up must not answer for the attack."""
        redis, settings = self.world.factory.resources.redis, self.world.factory.resources.settings
        async for key in redis.scan_iter(f"{settings.redis_namespace}:l:{self.policy.name}:*", count=1000):
            await redis.delete(key)


async def send(client: Client, method: str, path: str, **options: Any) -> httpx.Response:
    """As it stands: nothing is made harmless on the way out."""
    return await client.http.request(method, path, **options)
