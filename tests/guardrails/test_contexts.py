"""The type of the context parameter is the policy: who gets in, what they see, and that commit precedes the answer."""

from __future__ import annotations

from typing import Annotated, Any

import asyncpg
import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI

from service.app import build
from service.core.context import Context
from service.core.settings import Settings
from service.features.indicators.models import Indicator
from service.guardrails import contexts
from service.guardrails.contexts import Ctx, PublicCtx, StaffCtx, UserCtx
from service.guardrails.permissions import Role
from tests.support.factories import Factory

probe = APIRouter()


@probe.get("/probe/public")
async def public(ctx: PublicCtx) -> str:
    return f"{ctx.actor.kind}:{ctx.organization_id}"


@probe.get("/probe/user")
async def user(ctx: UserCtx) -> str:
    return str(ctx.actor.kind)


@probe.get("/probe/organization")
async def organization(ctx: Ctx) -> str:
    return str(ctx.organization_id)


@probe.get("/probe/staff")
async def staff(ctx: StaffCtx) -> str:
    return str(ctx.actor.kind)


@probe.get("/probe/writes-on-get")
async def writes_on_get(ctx: Ctx) -> str:
    ctx.add(Indicator(name="By a link"))
    await ctx.db.flush()
    return "written"


@probe.post("/probe/fails-at-commit")
async def fails_at_commit(ctx: Ctx) -> str:
    """A deferred constraint: the statement succeeds, COMMIT fails."""
    await ctx.work.raw.execute("CREATE TEMP TABLE later (n int UNIQUE DEFERRABLE INITIALLY DEFERRED) ON COMMIT DROP")
    await ctx.work.raw.execute("INSERT INTO later VALUES (1), (1)")
    ctx.add(Indicator(name="Lost at commit"))
    return "saved"


LateCtx = Annotated[Context, Depends(contexts._in_organization)]
"""What `Ctx` would be with FastAPI's default scope."""


@probe.post("/probe/answers-before-commit")
async def answers_before_commit(ctx: LateCtx) -> str:
    return await fails_at_commit(ctx)


@pytest.fixture(scope="module")
async def http(settings: Settings, factory: Factory, superuser: asyncpg.Connection[Any]) -> Any:
    from service.app import close_resources, route_names
    from service.core.observe import Observe
    from service.guardrails.browser import Shield
    from service.web.errors import refusal

    await superuser.execute(
        "GRANT TEMP ON DATABASE " + str(await superuser.fetchval("SELECT current_database()")) + " TO ballast_app"
    )
    app: FastAPI = build(settings)
    app.include_router(probe)
    shielded = Shield(app, settings, lambda scope, error: refusal(app, scope, error))
    wrapped = Observe(shielded, lambda scope: "10.9.8.7", lambda scope: True, route_names(app))
    transport = httpx.ASGITransport(wrapped, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=settings.base_url) as client:
        client.headers["accept"] = "application/json"
        yield client
    await close_resources(app.state.resources)


async def cookie(factory: Factory, settings: Settings, *methods: str, **person: Any) -> tuple[dict[str, str], Any]:
    from service.guardrails import sessions

    somebody = await factory.person(**person)
    token, login = await factory.log_in(somebody, *methods)
    return {"cookie": f"{sessions.cookie_name(settings)}={token}", "x-csrf-token": login.csrf}, somebody


async def test_each_type_lets_in_whom_it_names(http: httpx.AsyncClient, factory: Factory, settings: Settings) -> None:
    nobody: dict[str, str] = {}
    homeless, _ = await cookie(factory, settings)
    member, person = await cookie(factory, settings, role=Role.MEMBER)
    staffer, _ = await cookie(factory, settings, "password", "totp", staff=True)
    asked = {"nobody": nobody, "homeless": homeless, "member": member, "staff": staffer}
    found = {
        kind: {who: (await http.get(f"/probe/{kind}", headers=headers)).status_code for who, headers in asked.items()}
        for kind in ("public", "user", "organization", "staff")
    }
    assert found == {
        "public": {"nobody": 200, "homeless": 200, "member": 200, "staff": 200},
        "user": {"nobody": 401, "homeless": 200, "member": 200, "staff": 200},
        "organization": {"nobody": 401, "homeless": 409, "member": 200, "staff": 409},
        "staff": {"nobody": 404, "homeless": 404, "member": 404, "staff": 200},
    }
    assert (await http.get("/probe/organization", headers=member)).json() == str(person.organization_id)


async def test_a_link_cannot_change_anything(
    http: httpx.AsyncClient, factory: Factory, settings: Settings, superuser: asyncpg.Connection[Any]
) -> None:
    member, person = await cookie(factory, settings, role=Role.MEMBER)
    assert (await http.get("/probe/writes-on-get", headers=member)).status_code == 500
    count = "SELECT count(*) FROM indicators WHERE organization_id = $1"
    assert await superuser.fetchval(count, person.organization_id) == 0


async def test_a_failed_commit_is_never_a_success(
    http: httpx.AsyncClient, factory: Factory, settings: Settings, superuser: asyncpg.Connection[Any]
) -> None:
    """FastAPI's default scope answers first: the client was told 200 and the data was gone."""
    member, person = await cookie(factory, settings, role=Role.MEMBER)
    answer = await http.post("/probe/fails-at-commit", headers=member)
    assert answer.status_code >= 500
    assert "saved" not in answer.text
    count = "SELECT count(*) FROM indicators WHERE organization_id = $1"
    assert await superuser.fetchval(count, person.organization_id) == 0


async def test_it_bites_with_the_default_scope_a_failed_commit_is_a_success(
    http: httpx.AsyncClient, factory: Factory, settings: Settings, superuser: asyncpg.Connection[Any]
) -> None:
    member, person = await cookie(factory, settings, role=Role.MEMBER)
    answer = await http.post("/probe/answers-before-commit", headers=member)
    assert (answer.status_code, answer.json()) == (200, "saved")
    count = "SELECT count(*) FROM indicators WHERE organization_id = $1"
    assert await superuser.fetchval(count, person.organization_id) == 0


async def test_it_bites_without_the_read_only_transaction_a_link_changes_something(
    http: httpx.AsyncClient, factory: Factory, settings: Settings, superuser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts, "SAFE_METHODS", frozenset())
    member, person = await cookie(factory, settings, role=Role.MEMBER)
    assert (await http.get("/probe/writes-on-get", headers=member)).status_code == 200
    count = "SELECT count(*) FROM indicators WHERE organization_id = $1"
    assert await superuser.fetchval(count, person.organization_id) == 1


async def test_an_ended_epoch_ends_the_session(
    http: httpx.AsyncClient, factory: Factory, settings: Settings, superuser: asyncpg.Connection[Any]
) -> None:
    """Redis still holds the session; PostgreSQL says that all were revoked."""
    member, person = await cookie(factory, settings, role=Role.MEMBER)
    assert (await http.get("/probe/user", headers=member)).status_code == 200
    await superuser.execute("UPDATE users SET session_epoch = session_epoch + 1 WHERE id = $1", person.id)
    assert (await http.get("/probe/user", headers=member)).status_code == 401


async def test_a_removed_member_is_out_at_the_next_request(
    http: httpx.AsyncClient, factory: Factory, settings: Settings, superuser: asyncpg.Connection[Any]
) -> None:
    member, person = await cookie(factory, settings, role=Role.MEMBER)
    await superuser.execute("DELETE FROM memberships WHERE user_id = $1", person.id)
    assert (await http.get("/probe/organization", headers=member)).status_code == 409


async def test_staff_without_a_second_factor_stays_out(
    http: httpx.AsyncClient, factory: Factory, settings: Settings
) -> None:
    staffer, _ = await cookie(factory, settings, "password", staff=True)
    assert (await http.get("/probe/staff", headers=staffer)).status_code == 403
