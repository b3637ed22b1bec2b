"""Pages show every row exactly once, whatever happens in between, and cursors work nowhere else."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import aliased

from service.core.context import Context
from service.core.crypto import sign
from service.core.errors import Invalid
from service.core.ids import new_id
from service.core.schemas import Output
from service.core.statements import Prepared
from service.guardrails import pagination
from service.guardrails.pagination import MOST, SIZES, Keyset, Page, PageRequest, Position, paginate
from tests.guardrails.playground import Box, Item, Mark, Playground


class BoxRead(Output):
    id: UUID
    rank: int


UP = Keyset(select(Box.id, Box.rank), order=(Box.rank.asc(), Box.id.asc()))
DOWN = Keyset(select(Box.rank, Box.id), order=(Box.rank.desc(), Box.id.desc()))
BY_TIME = Keyset(select(Box.id, Box.rank), order=(Box.created_at.desc(), Box.id.desc()))
RANKED = Keyset(select(Box.id, Box.rank).where(Box.rank == bindparam("rank")), order=(Box.id.asc(),))
ITEMS = Keyset(select(Item.id, Item.name), order=(Item.id.asc(),))


async def plant(playground: Playground, ranks: list[int], tenant: UUID | None = None) -> UUID:
    tenant = tenant or await playground.organization()
    await playground.superuser.executemany(
        "INSERT INTO boxes (id, organization_id, name, rank, created_at)"
        " VALUES ($1::uuid, $2, $1::uuid::text, $3::int, 'epoch'::timestamptz + $3::int * interval '1 microsecond')",
        [(new_id(), tenant, rank) for rank in ranks],
    )
    return tenant


async def expected(playground: Playground, tenant: UUID, order: str) -> list[UUID]:
    rows = await playground.superuser.fetch(f"SELECT id FROM boxes WHERE organization_id = $1 ORDER BY {order}", tenant)
    return [row["id"] for row in rows]


async def walk(
    ctx: Context, keyset: Keyset, limits: list[int], between: Callable[[], Any] | None = None
) -> list[Page[BoxRead]]:
    """All pages from the first to the last, with the limits in turn."""
    pages: list[Page[BoxRead]] = []
    cursor: str | None = None
    while not pages or cursor:
        page = await paginate(ctx, keyset, Position(limits[len(pages) % len(limits)], cursor), BoxRead)
        assert page.has_more == (page.next_cursor is not None)
        pages.append(page)
        cursor = page.next_cursor
        if between is not None:
            await between()
    return pages


def ids(pages: list[Page[BoxRead]]) -> list[UUID]:
    return [item.id for page in pages for item in page.items]


RANKS = st.lists(st.integers(-3, 3), max_size=40)
LIMITS = st.lists(st.integers(1, 15) | st.sampled_from(SIZES[:2]), min_size=1, max_size=4)
ORDERS = {"rank, id": UP, "rank DESC, id DESC": DOWN, "created_at DESC, id DESC": BY_TIME}


@examples(max_examples=40, deadline=None)
@given(ranks=RANKS, limits=LIMITS, order=st.sampled_from(sorted(ORDERS)))
@example(ranks=[0, 1] * 60, limits=[10, 50], order="rank, id")
async def test_every_row_comes_once_and_in_order(
    playground: Playground, ranks: list[int], limits: list[int], order: str
) -> None:
    tenant = await plant(playground, ranks)
    async with playground.context(tenant, read_only=True) as ctx:
        pages = await walk(ctx, ORDERS[order], limits)
    assert ids(pages) == await expected(playground, tenant, order)
    assert all(len(page.items) == limits[at % len(limits)] for at, page in enumerate(pages[:-1]))


@examples(max_examples=25, deadline=None)
@given(ranks=st.lists(st.integers(-3, 3), min_size=1, max_size=40), limit=st.integers(1, 15))
async def test_going_back_shows_the_same_pages(playground: Playground, ranks: list[int], limit: int) -> None:
    tenant = await plant(playground, ranks)
    async with playground.context(tenant, read_only=True) as ctx:
        there = await walk(ctx, DOWN, [limit])
        back = there[-1:]
        while cursor := back[-1].previous_cursor:
            back.append(await paginate(ctx, DOWN, Position(limit, cursor), BoxRead))
            assert back[-1].has_more
    assert [page.items for page in reversed(back)] == [page.items for page in there]
    assert [page.next_cursor for page in reversed(back)] == [page.next_cursor for page in there]


@examples(max_examples=25, deadline=None)
@given(ranks=st.lists(st.integers(-3, 3), min_size=3, max_size=30), limit=st.integers(1, 8), data=st.data())
async def test_inserts_and_deletions_in_between_neither_repeat_nor_skip(
    playground: Playground, ranks: list[int], limit: int, data: st.DataObject
) -> None:
    tenant = await plant(playground, ranks)
    before = set(await expected(playground, tenant, "id"))
    removed: set[UUID] = set()

    async def disturb() -> None:
        if len(await expected(playground, tenant, "id")) < 200:
            await plant(playground, data.draw(st.lists(st.integers(-3, 3), max_size=3)), tenant)
        victim = data.draw(st.sampled_from(sorted(before)))
        removed.add(victim)
        await playground.superuser.execute("DELETE FROM boxes WHERE id = $1", victim)

    async with playground.context(tenant) as ctx:
        seen = ids(await walk(ctx, DOWN, [limit], disturb))
    assert len(seen) == len(set(seen)), "a row was shown twice"
    assert before - removed <= set(seen), "a row that was there all the time was skipped"


async def test_it_bites_offset_repeats_a_row_when_another_is_inserted(playground: Playground) -> None:
    tenant = await plant(playground, [1, 2, 3, 4])
    naive = Prepared(select(Box.id).order_by(Box.rank.desc()).limit(2).offset(bindparam("skip")))
    async with playground.context(tenant) as ctx:
        first = [row["id"] for row in await ctx.fetch(naive, skip=0)]
        await plant(playground, [9], tenant)
        second = [row["id"] for row in await ctx.fetch(naive, skip=2)]
    assert set(first) & set(second)


async def test_it_bites_an_order_with_ties_skips_rows(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="end it with a unique column"):
        Keyset(select(Box.id, Box.rank), order=(Box.rank.asc(),))
    monkeypatch.setattr(pagination, "insist_on_total_order", lambda *_: None)
    tied = Keyset(select(Box.id, Box.rank), order=(Box.rank.asc(),))
    tenant = await plant(playground, [1] * 10)
    async with playground.context(tenant) as ctx:
        assert len(ids(await walk(ctx, tied, [3]))) < 10


async def cursor_of(ctx: Context, keyset: Keyset, model: Any = BoxRead, **parameters: Any) -> str:
    cursor = (await paginate(ctx, keyset, Position(1), model, **parameters)).next_cursor
    assert cursor is not None
    return cursor


async def test_a_cursor_works_in_its_own_list_only(playground: Playground) -> None:
    mine, theirs = await plant(playground, [1, 1, 2]), await plant(playground, [1, 1, 2])
    async with playground.context(mine) as ctx:
        up, ones = await cursor_of(ctx, UP), await cursor_of(ctx, RANKED, rank=1)
        elsewhere: list[tuple[Keyset, str, dict[str, Any]]] = [
            (DOWN, up, {}),
            (ITEMS, up, {}),
            (RANKED, up, {"rank": 1}),
            (RANKED, ones, {"rank": 2}),
        ]
        for keyset, cursor, parameters in elsewhere:
            with pytest.raises(Invalid, match="does not belong to this list"):
                await paginate(ctx, keyset, Position(2, cursor), BoxRead, **parameters)
        assert len((await paginate(ctx, RANKED, Position(2, ones), BoxRead, rank=1)).items) == 1
    async with playground.context(theirs) as ctx:
        with pytest.raises(Invalid, match="does not belong to this list"):
            await paginate(ctx, UP, Position(2, up), BoxRead)


@examples(max_examples=60, deadline=None)
@given(data=st.data())
async def test_an_altered_cursor_is_refused(playground: Playground, data: st.DataObject) -> None:
    tenant = await plant(playground, [1, 2])
    async with playground.context(tenant) as ctx:
        good = await cursor_of(ctx, UP)
        at = data.draw(st.integers(0, len(good) - 1))
        bad = data.draw(
            st.one_of(
                st.text(min_size=1, max_size=80),
                st.just(good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :]),
                st.just(good[:at] or "x"),
                st.just(good + "AAAA"),
                st.just(sign("cursor", b"12345678[]")),
                st.just(base64.urlsafe_b64encode(b'["a","1","x"]').decode()),
            )
        )
        with pytest.raises(Invalid) as refusal:
            await paginate(ctx, UP, Position(1, bad), BoxRead)
    assert "cursor" in refusal.value.fields
    assert bad not in f"{refusal.value.detail}{refusal.value.mend}" or len(bad) < 4


async def test_it_bites_an_unbound_cursor_is_accepted_elsewhere(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = await plant(playground, [1, 2, 3]), await plant(playground, [1, 2, 3])
    monkeypatch.setattr(Keyset, "binding", lambda *_: b"")
    async with playground.context(mine) as ctx:
        cursor = await cursor_of(ctx, UP)
    async with playground.context(theirs) as ctx:
        assert (await paginate(ctx, UP, Position(2, cursor), BoxRead)).items


REFUSALS: dict[str, tuple[Callable[[], Keyset], str]] = {
    "no order": (lambda: Keyset(select(Box.id), order=()), "same direction"),
    "mixed": (lambda: Keyset(select(Box.id), order=(Box.rank.asc(), Box.id.desc())), "same direction"),
    "expression": (lambda: Keyset(select(Box.id), order=(func.lower(Box.name), Box.id)), "orders by table columns"),
    "nulls last": (lambda: Keyset(select(Box.id), order=(Box.id.desc().nulls_last(),)), "orders by table columns"),
    "nullable": (lambda: Keyset(select(Box.id), order=(Box.deleted_at, Box.id)), "may be NULL"),
    "partly unique": (lambda: Keyset(select(Box.id), order=(Box.name,)), "end it with a unique column"),
    "unpinned": (lambda: Keyset(select(Mark.at), order=(Mark.at,)), "end it with a unique column"),
    "alias": (lambda: Keyset(select(aliased(Box).id), order=(aliased(Box).rank,)), "end it with a unique column"),
}


@pytest.mark.parametrize("definition", REFUSALS)
def test_an_order_that_could_lose_rows_is_refused_where_it_is_defined(definition: str) -> None:
    define, message = REFUSALS[definition]
    with pytest.raises(TypeError, match=message):
        define()


def test_what_the_list_pins_down_counts_towards_uniqueness() -> None:
    Keyset(select(Mark.at).where(Mark.box_id == bindparam("box")), order=(Mark.at.desc(),))
    Keyset(
        select(Box.id).where(Box.deleted_at.is_not(None)),
        order=(Box.deleted_at.desc(), Box.id.desc()),
        include_deleted=True,
    )


def test_statements_count_nothing_and_skip_nothing() -> None:
    texts = [keyset.prepared(way, size).sql for keyset in (UP, BY_TIME) for way in (None, "a", "b") for size in SIZES]
    assert len(texts) == 24
    for sql in texts:
        assert re.search(r"LIMIT (11|51|201|2001)$", sql)
        assert not re.search("offset|count", sql, re.IGNORECASE)


async def test_a_deep_page_reads_as_little_as_the_first(playground: Playground) -> None:
    """Buffers, not milliseconds: they are the same on every machine."""
    tenant = await playground.organization()
    await playground.superuser.execute(
        "INSERT INTO boxes (id, organization_id, name, rank, created_at)"
        " SELECT gen_random_uuid(), $1, n::text, n, now() FROM generate_series(1, 20000) n",
        tenant,
    )
    await playground.superuser.execute("VACUUM ANALYZE boxes")

    async def buffers(ctx: Context, statement: Prepared, **values: Any) -> int:
        sql, arguments = statement.bind(values, tenant=tenant, user=None)
        rows = await ctx.work.raw.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {sql}", *arguments)
        return next(int(hit) for row in rows for hit in re.findall(r"shared hit=(\d+)", row[0]))  # the root's

    async with playground.context(tenant, read_only=True) as ctx:
        first = await buffers(ctx, UP.prepared(None, 50))
        deep = await buffers(ctx, UP.prepared("a", 50), key_0=19_000, key_1=new_id())
        offset = Prepared(select(Box.id, Box.rank).order_by(Box.rank, Box.id).limit(51).offset(bindparam("skip")))
        skipped = await buffers(ctx, offset, skip=19_000)
    await playground.superuser.execute("DELETE FROM boxes WHERE organization_id = $1", tenant)
    assert abs(deep - first) <= 4, f"first page {first} buffers, deep page {deep}"
    assert skipped > 10 * deep, "it bites: OFFSET reads all it skips"


async def test_the_query_string_has_a_default_and_a_ceiling() -> None:
    app = FastAPI()

    @app.get("/")
    async def show(page: PageRequest) -> dict[str, Any]:
        return {"limit": page.limit, "cursor": page.cursor}

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.get("/")).json() == {"limit": 50, "cursor": None}
        assert (await client.get(f"/?limit={MOST}")).json()["limit"] == MOST
        for wrong in (f"limit={MOST + 1}", "limit=0", "limit=-1", "limit=ten", f"cursor={'x' * 2001}"):
            assert (await client.get(f"/?{wrong}")).status_code == 422
