"""Whom the machine has begun to erase is not brought back half forgotten, and then deleted alive."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from infra.sandbox.stripe.knobs import StripeKnobs
from service.core import clock
from service.features.accounts.models import OneTimeToken, Purpose, User
from tests.features.erasure.world import World
from tests.support.factories import Person

pytest_plugins = ("tests.guardrails.durability", "tests.features.erasure.planet")
DELETED = "SELECT deleted_at IS NOT NULL FROM users WHERE id = $1"


async def way_back(world: World, person: Person) -> str:
    """The link that a deleted account's owner gets by mail."""
    async with world.acting() as ctx:
        wanted = select(User).where(User.id == person.id)
        user = await ctx.db.scalar(wanted, execution_options={"include_deleted": True})
        assert user is not None
        token = OneTimeToken.for_user(user, Purpose.UNDO_DELETION)
        ctx.add(token)
        return f"/recover/{token.link}"


async def test_neither_staff_nor_a_link_bring_back_who_is_being_erased(world: World, person: Person) -> None:
    await world.customer(person.organization_id, person.email)
    await world.ask(person)
    world.stripe.account.knobs = StripeKnobs(api_error_before=1)
    await world.after_a_day()
    assert (await world.request(person))["state"] == "executing"
    page = f"/staff/people/{person.id}"
    colleague = await world.factory.person(staff=True)
    async with await world.factory.client(colleague, "password", "totp") as staff:
        refused = await staff.submit(f"{page}/recover", page=page, reason="Ticket 4711")
    assert refused.status_code != 303
    assert "This account is being erased" in refused.text
    link = await way_back(world, person)
    async with await world.factory.client() as visitor:
        answer = await visitor.submit(link, page=link)
        assert "This account is being erased" in await visitor.page(answer.headers["location"])
    assert await world.superuser.fetchval(DELETED, person.id)
    world.stripe.account.knobs = StripeKnobs()
    clock.advance(timedelta(hours=2))
    await world.work_off()
    assert ((await world.request(person))["state"], await world.exists(person)) == ("done", False)
