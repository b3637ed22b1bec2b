"""Switches: they work everywhere within two seconds, cost nothing in between, and are safe when nobody can ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from service.core.context import Actor, ActorKind, Context, Resources
from service.core.database import LOST
from service.core.errors import ReadOnly
from service.core.ids import new_id
from service.guardrails import actions, switches
from service.guardrails.permissions import Who
from service.guardrails.switches import Switch
from tests.support.captured_sql import sent_here

if TYPE_CHECKING:
    from tests.guardrails.durability import Acting

pytest_plugins = "tests.guardrails.durability"

STAFF = Actor(ActorKind.STAFF, new_id())


@pytest.fixture(autouse=True)
async def _all_off(own_superuser: asyncpg.Connection[Any], own_resources: Resources) -> AsyncIterator[None]:
    await own_superuser.execute("TRUNCATE switches")
    switches._known.pop(own_resources, None)
    yield
    switches._known.pop(own_resources, None)


@pytest.fixture
def minutes_pass(own_resources: Resources) -> Any:
    """Make what this process knows about the switches old."""

    def passing() -> None:
        read_at, states = switches._known[own_resources]
        switches._known[own_resources] = (read_at - 60, states)

    return passing


async def turn(acting: Acting, switch: Switch, *, on: bool, reason: str = "") -> None:
    async with acting(actor=STAFF) as ctx:
        await switches.turn(ctx, switch, on=on, reason=reason)


async def test_a_switch_is_off_until_turned_and_says_why_and_who(
    acting: Acting, own_superuser: asyncpg.Connection[Any], minutes_pass: Any
) -> None:
    async with acting() as ctx:
        assert [await switches.is_on(ctx, switch) for switch in Switch] == [False, False, False]
        assert await switches.current(ctx) == {}
    await turn(acting, Switch.STOP_MAIL, on=True, reason="The provider is down.")
    async with acting() as ctx:
        assert await switches.is_on(ctx, Switch.STOP_MAIL)
        assert not await switches.is_on(ctx, Switch.READ_ONLY)
        assert await switches.current(ctx) == {"stop_mail": "The provider is down."}
    row = await own_superuser.fetchrow("SELECT * FROM switches")
    assert (row["name"], row["changed_by"]) == ("stop_mail", STAFF.id)
    await turn(acting, Switch.STOP_MAIL, on=False)
    async with acting() as ctx:
        assert await switches.current(ctx) == {}


async def test_while_changes_are_paused_actions_are_refused_except_those_that_end_the_pause(acting: Acting) -> None:
    @actions.action("switch_tests.change", requires=Who.ANYONE)
    async def change(ctx: Context) -> None: ...

    @actions.action("switch_tests.resume", requires=Who.ANYONE, while_read_only=True)
    async def resume(ctx: Context) -> None:
        await switches.turn(ctx, Switch.READ_ONLY, on=False, reason="")

    try:
        async with acting() as ctx:
            await change(ctx)
        await turn(acting, Switch.READ_ONLY, on=True, reason="We move to a new database.")
        async with acting() as ctx:
            with pytest.raises(ReadOnly, match="We move to a new database") as caught:
                await change(ctx)
            assert caught.value.retry_after
        async with acting() as ctx:
            await resume(ctx)
        async with acting() as ctx:
            await change(ctx)
    finally:
        for name in ("switch_tests.change", "switch_tests.resume"):
            del actions.RULES[name]


async def test_without_the_question_the_change_goes_through(acting: Acting, monkeypatch: pytest.MonkeyPatch) -> None:
    """It bites."""

    async def nobody_asks(_: Context) -> None: ...

    @actions.action("switch_tests.change", requires=Who.ANYONE)
    async def change(ctx: Context) -> str:
        return "changed"

    try:
        await turn(acting, Switch.READ_ONLY, on=True)
        monkeypatch.setattr(switches, "refuse_while_read_only", nobody_asks)
        async with acting() as ctx:
            assert await change(ctx) == "changed"
    finally:
        del actions.RULES["switch_tests.change"]


async def test_asking_costs_one_statement_every_two_seconds(acting: Acting, minutes_pass: Any) -> None:
    with sent_here() as statements:
        async with acting() as ctx:
            for _ in range(50):
                await switches.current(ctx)
                await switches.refuse_while_read_only(ctx)
            assert statements == [switches.STATES]
            minutes_pass()
            await switches.current(ctx)
            await switches.current(ctx)
            assert statements == [switches.STATES] * 2


async def test_another_process_sees_it_after_two_seconds(
    acting: Acting, own_superuser: asyncpg.Connection[Any], minutes_pass: Any
) -> None:
    async with acting() as ctx:
        assert not await switches.is_on(ctx, Switch.READ_ONLY)
    await own_superuser.execute("INSERT INTO switches VALUES ('read_only', true, '', now(), NULL)")
    async with acting() as ctx:
        assert not await switches.is_on(ctx, Switch.READ_ONLY)
    assert switches.FRESH_SECONDS == 2
    minutes_pass()
    async with acting() as ctx:
        assert await switches.is_on(ctx, Switch.READ_ONLY)


async def test_a_turn_that_is_rolled_back_never_happened(acting: Acting) -> None:
    async def fail_after_turning() -> None:
        async with acting(actor=STAFF) as ctx:
            await switches.turn(ctx, Switch.READ_ONLY, on=True, reason="")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_after_turning()
    async with acting() as ctx:
        assert not await switches.is_on(ctx, Switch.READ_ONLY)


async def test_when_nobody_can_ask_the_last_answer_holds_and_without_one_everything_is_stopped(
    acting: Acting, own_superuser: asyncpg.Connection[Any], own_resources: Resources, minutes_pass: Any
) -> None:
    async def states_without_a_database() -> dict[str, str]:
        found: dict[str, str] = {}

        async def look() -> None:
            async with acting() as ctx:
                await own_superuser.execute("SELECT pg_terminate_backend($1)", ctx.work.raw.get_server_pid())
                found.update(await switches.current(ctx))

        with pytest.raises(LOST):
            await look()  # the commit fails, as it must
        return found

    assert await states_without_a_database() == {"read_only": "", "stop_sign_ups": "", "stop_mail": ""}
    await turn(acting, Switch.STOP_MAIL, on=True, reason="known")
    async with acting() as ctx:
        await switches.current(ctx)
    minutes_pass()
    assert await states_without_a_database() == {"stop_mail": "known"}
