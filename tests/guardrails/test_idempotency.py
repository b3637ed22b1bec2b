"""One intent has one effect and one answer, through retries, twins, crashes and curious strangers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from service.core.context import Actor, ActorKind, Caller, Context
from service.core.database import UnitOfWork
from service.core.errors import Conflict, ServiceError
from service.core.ids import new_id
from service.core.schemas import Input, Output
from service.core.statements import PreparedText
from service.guardrails import idempotency
from service.guardrails.idempotency import LARGEST, LOOK_FIRST, IdempotencyKey, IdempotentRoute
from service.guardrails.permissions import Role
from tests.guardrails.playground import Box, Playground
from tests.support.factories import Factory

Twist = Callable[[Context], Awaitable[None]]


@dataclass
class Shop:
    """A small application on a real database; `twist` is what happens in the action after its effect."""

    playground: Playground
    http: httpx.AsyncClient
    organization: UUID
    app: FastAPI
    actor: UUID = field(default_factory=uuid4)
    twist: Twist | None = None

    async def post(
        self, key: str | bytes | None, name: str = "box", path: str = "/boxes", **who: UUID
    ) -> httpx.Response:
        """`who`: organization and actor, where they are not the usual ones."""
        headers: dict[str, Any] = {it: str(who.get(it, getattr(self, it))) for it in ("organization", "actor")}
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self.http.post(path, json={"name": name}, headers=headers)

    async def boxes(self) -> int:
        return await self.playground.count("boxes", "organization_id = $1", self.organization)

    async def answers(self) -> int:
        return await self.playground.count("idempotency_keys", "owner_id = $1", self.organization)


class BoxCreate(Input):
    name: str


class BoxRead(Output):
    id: UUID
    name: str


async def context(request: Request) -> AsyncIterator[Context]:
    """Opens and commits exactly as guardrails.contexts does; only the login is simpler."""
    playground: Playground = request.app.state.shop.playground
    tenant, actor = UUID(request.headers["organization"]), UUID(request.headers["actor"])
    async with playground.database.connection() as connection:
        work = UnitOfWork(connection)
        ctx = Context(work, playground.resources, Actor(ActorKind.USER, actor), Caller("test"), tenant)
        request.scope["state"]["context"] = ctx
        try:
            await work.begin(tenant=tenant, user=actor, read_only=False)
            yield ctx
            await work.commit()
        finally:
            await work.close()


Ctx = Annotated[Context, Depends(context, scope="function")]
router = APIRouter(route_class=IdempotentRoute)


async def create(request: Request, ctx: Context, given: BoxCreate) -> BoxRead:
    box = Box(id=new_id(), name=uuid4().hex)
    ctx.add(box)
    await ctx.db.flush()
    if (twist := request.app.state.shop.twist) is not None:
        await twist(ctx)
    return BoxRead(id=box.id, name=given.name)


@router.post("/boxes", status_code=201)
async def with_key(request: Request, ctx: Ctx, given: BoxCreate, key: IdempotencyKey, response: Response) -> BoxRead:
    response.headers["Location"] = "/boxes/1"
    response.headers["Set-Cookie"] = "secret=1"
    return await create(request, ctx, given)


@router.post("/boxes/explained", status_code=201)
async def explains_failures(request: Request, ctx: Ctx, given: BoxCreate, key: IdempotencyKey) -> Any:
    try:
        return await create(request, ctx, given)
    except Conflict:
        await ctx.work.abandon()
        return JSONResponse({"sorry": True}, 409)


@router.post("/plain", status_code=201)
async def without_key(request: Request, ctx: Ctx, given: BoxCreate) -> BoxRead:
    return await create(request, ctx, given)


async def explain(_: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    return JSONResponse({"detail": error.detail, "mend": error.mend}, error.status, headers)


def client_of(app: FastAPI, *, raising: bool = False) -> httpx.AsyncClient:
    async def with_state(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {}
        await app(scope, receive, send)

    transport = httpx.ASGITransport(with_state, raise_app_exceptions=raising)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@asynccontextmanager
async def open_shop(playground: Playground) -> AsyncIterator[Shop]:
    app = FastAPI(exception_handlers={ServiceError: explain})
    app.include_router(router)
    async with client_of(app) as http:
        app.state.shop = Shop(playground, http, await playground.organization(), app)
        yield app.state.shop


@pytest.fixture
async def shop(playground: Playground) -> AsyncIterator[Shop]:
    async with open_shop(playground) as opened:
        yield opened


async def test_a_repeated_request_gets_the_first_answer(shop: Shop) -> None:
    first = await shop.post("key")
    again = await shop.post("key")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert (again.headers["location"], again.headers["content-type"]) == ("/boxes/1", "application/json")
    assert "set-cookie" not in again.headers
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    assert await shop.boxes() == 1


async def test_it_bites_without_a_key_the_retry_has_an_effect_of_its_own(shop: Shop) -> None:
    for _ in range(2):
        assert (await shop.post(None, path="/plain")).status_code == 201
    assert await shop.boxes() == 2


async def test_a_key_belongs_to_one_request(shop: Shop) -> None:
    await shop.post("key")
    for name, path in (("other", "/boxes"), ("box", "/boxes?quietly=1")):
        refused = await shop.post("key", name, path)
        assert refused.status_code == 422
        assert "different request" in refused.json()["detail"]
        assert "fresh random value" in refused.json()["mend"]
    assert await shop.boxes() == 1


async def test_others_may_use_the_same_key(shop: Shop) -> None:
    """And learn nothing: neither the answer nor that the key was used."""
    await shop.post("key")
    colleague = await shop.post("key", name="theirs", actor=uuid4())
    elsewhere = await shop.post("key", name="theirs", organization=await shop.playground.organization())
    route = await shop.post("key", name="theirs", path="/boxes/explained")
    for answer in (colleague, elsewhere, route):
        assert (answer.status_code, answer.json()["name"]) == (201, "theirs")
        assert "idempotent-replayed" not in answer.headers


@pytest.mark.parametrize(
    "key", [None, "", " ", "a b", "tab\tbed", "schlüssel".encode(), "x" * 256], ids=lambda key: repr(key)[:12]
)
async def test_a_missing_or_odd_key_is_refused_with_a_way_out(shop: Shop, key: str | bytes | None) -> None:
    refused = await shop.post(key)
    assert refused.status_code == 400
    assert "Idempotency-Key" in refused.json()["detail"]
    assert "UUID" in refused.json()["mend"]
    assert await shop.boxes() == 0


async def test_two_keys_in_one_request_are_refused(shop: Shop) -> None:
    headers = [("organization", str(shop.organization)), ("actor", str(shop.actor))]
    both = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert (await shop.http.post("/boxes", json={"name": "x"}, headers=[*headers, *both])).status_code == 400


async def test_a_twin_that_comes_while_the_first_runs_is_told_to_wait(shop: Shop) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def hold(_: Context) -> None:
        entered.set()
        await leave.wait()

    shop.twist = hold
    first = asyncio.create_task(shop.post("key"))
    await entered.wait()
    twin = await shop.post("key")
    assert (twin.status_code, twin.headers["retry-after"]) == (409, "1")
    leave.set()
    assert (await first).status_code == 201
    assert (await shop.post("key")).headers["idempotent-replayed"] == "true"
    assert await shop.boxes() == 1


async def fail(_: Context) -> None:
    raise Conflict("not now")


async def lose_the_connection(ctx: Context) -> None:
    await ctx.work.raw.execute("SELECT pg_terminate_backend(pg_backend_pid())")


async def break_the_commit(ctx: Context) -> None:
    """The answer is made and stored, and then the COMMIT itself fails."""
    await ctx.work.raw.execute(
        "CREATE TEMP TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED) ON COMMIT DROP;"
        "INSERT INTO late VALUES (1), (1)"
    )


@pytest.mark.parametrize(
    ("twist", "status"),
    [(fail, 409), (lose_the_connection, 500), (break_the_commit, 500)],
    ids=["error", "lost connection", "failed commit"],
)
async def test_what_failed_leaves_no_answer_and_the_retry_runs(shop: Shop, twist: Twist, status: int) -> None:
    shop.twist = twist
    assert (await shop.post("key")).status_code == status
    assert (await shop.boxes(), await shop.answers()) == (0, 0)
    shop.twist = None
    again = await shop.post("key")
    assert (again.status_code, "idempotent-replayed" in again.headers) == (201, False)
    assert (await shop.boxes(), await shop.answers()) == (1, 1)


async def test_an_answer_about_a_failure_is_not_remembered(shop: Shop) -> None:
    shop.twist = fail
    assert (await shop.post("key", path="/boxes/explained")).json() == {"sorry": True}
    shop.twist = None
    assert (await shop.post("key", path="/boxes/explained")).status_code == 201
    assert await shop.boxes() == 1


async def test_an_answer_too_large_to_remember_undoes_the_change(shop: Shop) -> None:
    assert (await shop.post("key", name="x" * (LARGEST - 200))).status_code == 201
    assert (await shop.post("key2", name="x" * LARGEST)).status_code == 413
    assert await shop.boxes() == 1


async def test_an_action_may_go_on_in_another_organization(shop: Shop) -> None:
    """As the one that creates an organization does; the key stays with the one it was claimed in."""
    other = await shop.playground.organization()

    async def move(ctx: Context) -> None:
        await ctx.work.act_for(tenant=other, user=shop.actor)

    shop.twist = move
    assert (await shop.post("key")).status_code == 201
    shop.twist = None
    assert (await shop.post("key")).headers["idempotent-replayed"] == "true"


KEYS, NAMES, WHO = st.sampled_from("ab"), st.sampled_from(["x", "y"]), st.integers(0, 1)


@examples(max_examples=25, deadline=None)
@given(calls=st.lists(st.tuples(KEYS, NAMES, WHO), max_size=8))
async def test_any_sequence_behaves_like_a_dictionary(
    playground: Playground, calls: list[tuple[str, str, int]]
) -> None:
    actors = (uuid4(), uuid4())
    seen: dict[tuple[str, int], tuple[str, bytes]] = {}
    async with open_shop(playground) as shop:
        for key, name, who in calls:
            answer = await shop.post(key, name, actor=actors[who])
            known = seen.setdefault((key, who), (name, answer.content))
            assert answer.status_code == (201 if known[0] == name else 422)
            if answer.status_code == 201:
                assert answer.content == known[1]
        assert await shop.boxes() == len(seen)


async def storm(shop: Shop) -> Counter[int]:
    """Twelve twins at once on two connections, each trying again while told to wait."""

    async def persist() -> int:
        while True:
            answer = await shop.post("key")
            if answer.status_code not in (409, 503):
                return answer.status_code
            await asyncio.sleep(0.01)

    return Counter(await asyncio.gather(*(persist() for _ in range(12))))


async def test_a_storm_of_twins_has_one_effect(shop: Shop) -> None:
    assert await storm(shop) == {201: 12}
    assert (await shop.boxes(), await shop.answers()) == (1, 1)


async def test_the_unique_key_holds_when_the_lock_does_not(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up that was taken just before the first one's commit finds a free lock and no answer."""
    blind = PreparedText(
        "SELECT true AS free, NULL AS fingerprint, NULL AS answer"
        " WHERE coalesce(:lock::bigint::text, :owner::uuid::text, :actor::uuid::text, :route::text, :key::text) <> ''"
    )
    monkeypatch.setattr(idempotency, "LOOK", blind)
    answers = Counter([(await shop.post("key")).status_code for _ in range(3)])
    assert answers == {201: 1, 409: 2}
    assert (await shop.boxes(), await shop.answers()) == (1, 1)


async def test_it_bites_without_the_store_every_twin_has_an_effect(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forget(*_: Any) -> None:
        return None

    monkeypatch.setattr(idempotency, "remember", forget)
    await storm(shop)
    assert await shop.boxes() == 12


async def test_stored_answers_are_sealed(shop: Shop) -> None:
    """Some answers show a secret once; neither a dump nor a swap of two rows may show it again."""
    await shop.post("key", name="shown-once")
    await shop.post("other", name="something")
    rows = await shop.playground.superuser.fetch(
        "SELECT * FROM idempotency_keys WHERE owner_id = $1", shop.organization
    )
    assert len(rows) == 2
    assert b"shown-once" not in b"".join(row["answer"] for row in rows)
    await shop.playground.superuser.execute(
        "UPDATE idempotency_keys a SET answer = b.answer, fingerprint = b.fingerprint FROM idempotency_keys b"
        " WHERE a.owner_id = $1 AND b.owner_id = $1 AND a.key = 'other' AND b.key = 'key'",
        shop.organization,
    )
    swapped = await shop.post("other", name="shown-once")
    assert swapped.status_code == 409
    assert "shown-once" not in swapped.text
    assert swapped.json()["mend"] == LOOK_FIRST
    assert await shop.boxes() == 2, "nothing is done twice because its answer is lost"


async def test_answers_are_nobody_elses_and_never_change(shop: Shop) -> None:
    await shop.post("key")
    read = "SELECT count(*) FROM idempotency_keys"
    async with shop.playground.context(shop.organization) as ctx:
        assert await ctx.work.raw.fetchval(read) == 1
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ctx.work.raw.execute("UPDATE idempotency_keys SET answer = ''")
        await ctx.work.abandon()
    for tenant in (await shop.playground.organization(), None):
        async with shop.playground.context(tenant) as ctx:
            assert await ctx.work.raw.fetchval(read) == 0


async def after(request: Request) -> str:
    request.scope["state"]["context"] = "too late"
    return ""


@pytest.mark.parametrize("wrong", ["order", "router"])
async def test_wrong_wiring_fails_at_once(wrong: str) -> None:
    app = FastAPI()
    routes = APIRouter(route_class=IdempotentRoute) if wrong == "order" else APIRouter()

    @routes.post("/")
    async def act(key: IdempotencyKey, ctx: Annotated[str, Depends(after)]) -> None: ...

    app.include_router(routes)
    async with client_of(app, raising=True) as http:
        with pytest.raises(RuntimeError, match="after the context parameter, on a router with route_class"):
            await http.post("/", headers={"Idempotency-Key": "key"})


async def test_the_services_own_routes_answer_a_retry_once(factory: Factory) -> None:
    person = await factory.person(Role.MEMBER)
    async with await factory.client(person) as client:
        answers = [
            await client.api("POST", "/indicators", {"name": name}, **{"idempotency-key": key})
            for name, key in (("Signups", "one"), ("Signups", "one"), ("Revenue", "one"))
        ]
        names = [item["name"] for item in (await client.api("GET", "/indicators")).json()["items"]]
    assert [answer.status_code for answer in answers] == [201, 201, 422]
    assert answers[0].content == answers[1].content
    assert "idempotent-replayed" in answers[1].headers
    assert names == ["Signups"]
