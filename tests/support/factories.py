"""Plants what a test needs, under names of its own, so that tests never meet each other's rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from service.core import clock
from service.core.context import Caller, Login, Resources
from service.core.ids import new_id
from service.features.api_keys.queries import offered
from service.features.billing.models import plans
from service.guardrails import api_keys, sessions
from service.guardrails.permissions import Role
from tests.support.client import Client

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Person:
    """Somebody with an account, and where they are logged in."""

    id: UUID
    email: str
    organization_id: UUID | None
    role: Role | None


class Factory:
    """Writes as the superuser, who sees everything; what is tested goes through the product."""

    def __init__(self, superuser: asyncpg.Connection[Any], resources: Resources, url: str) -> None:
        self.superuser, self.resources, self.url = superuser, resources, url

    async def organization(self, name: str = "", region: str = "eu") -> UUID:
        identifier = new_id()
        await self.superuser.execute(
            "INSERT INTO organizations (id, name, region, created_at) VALUES ($1, $2, $3, $4)",
            identifier, name or f"Organization {identifier.hex[-6:]}", region, clock.now(),
        )  # fmt: skip
        return identifier

    async def person(
        self,
        role: Role | None = None,
        organization: UUID | None = None,
        *,
        staff: bool = False,
        verified: bool = True,
        password: str | None = None,
    ) -> Person:
        """A person; with a role, in the given organization or one of their own."""
        identifier = new_id()
        email = f"p{identifier.hex[-12:]}@example.com"
        hashed = await _hash(password) if password else None
        now = clock.now()
        await self.superuser.execute(
            "INSERT INTO users (id, email, name, password_hash, email_verified_at, is_staff, created_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7)",
            identifier, email, f"Person {identifier.hex[-4:]}", hashed, now if verified else None, staff, now,
        )  # fmt: skip
        if role is not None:
            organization = organization or await self.organization()
            await self.superuser.execute(
                "INSERT INTO memberships (id, organization_id, user_id, role, created_at) VALUES ($1, $2, $3, $4, $5)",
                new_id(), organization, identifier, role.label, now,
            )  # fmt: skip
            await self.superuser.execute(
                "UPDATE users SET last_organization_id = $2 WHERE id = $1", identifier, organization
            )
        return Person(identifier, email, organization, role)

    async def plan(self, organization: UUID, key: str = "business", **columns: Any) -> None:
        """What the organization may use from now on; `limits` differ from the plan's in what they name."""
        limits = plans.grants_of(plans.BY_KEY[key]) | columns.pop("limits", {})
        values = {
            "organization_id": organization, "plan": key, "grants": orjson.dumps(limits).decode(),
            "source": "test", "version": 1, "changed_at": clock.now(), **columns,
        }  # fmt: skip
        marks = ", ".join(f"${n + 1}" for n in range(len(values)))
        updates = ", ".join(f"{name} = excluded.{name}" for name in values)
        await self.superuser.execute(
            f"INSERT INTO entitlements ({', '.join(values)}) VALUES ({marks})"
            f" ON CONFLICT (organization_id) DO UPDATE SET {updates}",
            *values.values(),
        )

    async def log_in(self, person: Person, *methods: str, remembered: bool = False) -> tuple[str, Login]:
        """A session without the login page: the cookie's value and what is behind it."""
        epoch = await self.superuser.fetchval("SELECT session_epoch FROM users WHERE id = $1", person.id)
        return await sessions.begin(
            self.resources,
            user_id=person.id,
            organization_id=person.organization_id,
            epoch=epoch,
            methods=methods or ("password",),
            caller=Caller(request_id="test", address="127.0.0.1"),
            remembered=remembered,
        )

    async def client(self, person: Person | None = None, *methods: str) -> Client:
        """A browser; with a person, logged in. Close it with `async with`."""
        if person is None:
            return Client(self.url)
        token, login = await self.log_in(person, *methods)
        cookies = {sessions.cookie_name(self.resources.settings): token}
        home, role = person.organization_id, person.role
        key = await self.key(home, role) if home is not None and role is not None else ""
        return Client(self.url, csrf=login.csrf, cookies=cookies, key=key)

    async def key(
        self, organization: UUID, role: Role = Role.ADMIN, scopes: list[str] | None = None, **columns: Any
    ) -> str:
        """An API key, with every scope there is unless told otherwise; its row takes the given columns."""
        secret = api_keys.mint(organization)
        values = {
            "id": new_id(), "organization_id": organization, "name": "Program", "role": role.label,
            "scopes": offered(Role.OWNER) if scopes is None else scopes, "prefix": secret[: api_keys.SHOWN],
            "secret_hash": api_keys.hash_of(secret), "created_at": clock.now(), **columns,
        }  # fmt: skip
        marks = ", ".join(f"${n + 1}" for n in range(len(values)))
        await self.superuser.execute(f"INSERT INTO api_keys ({', '.join(values)}) VALUES ({marks})", *values.values())
        return secret

    async def indicator(self, organization: UUID, name: str = "", **columns: Any) -> UUID:
        identifier, now = new_id(), clock.now()
        values = {
            "id": identifier, "organization_id": organization, "name": name or f"Indicator {identifier.hex[-6:]}",
            "created_at": now, "changed_at": now, **columns,
        }  # fmt: skip
        marks = ", ".join(f"${n + 1}" for n in range(len(values)))
        await self.superuser.execute(f"INSERT INTO indicators ({', '.join(values)}) VALUES ({marks})", *values.values())
        return identifier

    async def source(
        self, organization: UUID, kind: str = "rates", target: str = "", config: Any = None, **columns: Any
    ) -> UUID:
        """One that is paused, unless said otherwise: nobody asks the outside for it."""
        identifier, now = new_id(), clock.now()
        values = {
            "id": identifier, "organization_id": organization, "kind": kind,
            "target": target or f"Source {identifier.hex[-6:]}",
            "config": orjson.dumps(config or {"base": "EUR", "quotes": ["USD"]}).decode(),
            "created_at": now, "next_pull_at": now, "paused_at": now, **columns,
        }  # fmt: skip
        marks = ", ".join(f"${n + 1}" for n in range(len(values)))
        await self.superuser.execute(f"INSERT INTO sources ({', '.join(values)}) VALUES ({marks})", *values.values())
        return identifier

    async def file(self, organization: UUID, name: str = "", **columns: Any) -> UUID:
        """A clean one whose bytes the store does not have, unless said otherwise."""
        identifier, now = new_id(), clock.now()
        values = {
            "id": identifier, "organization_id": organization, "name": name or f"File {identifier.hex[-6:]}.txt",
            "kind": "txt", "key": f"t/{organization}/{identifier.hex}", "size": 1, "digest": b"", "state": "clean",
            "finding": "", "active": False, "looks": 1, "next_look_at": now, "checked_at": now, "created_at": now,
            **columns,
        }  # fmt: skip
        marks = ", ".join(f"${n + 1}" for n in range(len(values)))
        await self.superuser.execute(f"INSERT INTO files ({', '.join(values)}) VALUES ({marks})", *values.values())
        return identifier

    async def fed(self, organization: UUID, source: UUID, series: str, name: str = "") -> UUID:
        """An indicator that the source feeds."""
        indicator = await self.indicator(organization, name, source_id=source)
        await self.superuser.execute(
            "INSERT INTO source_feeds (organization_id, source_id, series, indicator_id) VALUES ($1, $2, $3, $4)",
            organization, source, series, indicator,
        )  # fmt: skip
        return indicator


async def _hash(password: str) -> str:
    from pwdlib.hashers.argon2 import Argon2Hasher

    return Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1).hash(password)
