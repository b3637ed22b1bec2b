"""What Stripe itself sends because of an erasure names the former address once more: no copy of it outlives its
reading."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from infra.sandbox.stripe import endpoints
from infra.sandbox.stripe.knobs import StripeKnobs
from service.core.ids import new_id
from service.features.billing.flows.synchronize import synchronize_now
from service.guardrails.inbox import opened
from service.guardrails.permissions import Role
from tests.features.erasure import canary
from tests.features.erasure.world import World
from tests.support.stripe import event_body, listen, post

pytest_plugins = ("tests.guardrails.durability", "tests.features.erasure.planet")
ECHO = {"customer.updated", "customer.deleted"}
ABOUT = "SELECT * FROM inbox WHERE subject = ANY($1) OR external_id = ANY($1)"


async def told(world: World, *about: str) -> dict[str, tuple[str, bytes]]:
    """What the inbox has about these: type -> (state, body, opened)."""
    rows = await world.superuser.fetch(ABOUT, list(about))
    return {row["type"]: (row["state"], opened(row)) for row in rows}


async def until(world: World, *about: str, has: set[tuple[str, str]]) -> dict[str, tuple[str, bytes]]:
    for _ in range(600):
        found = await told(world, *about)
        if has <= {(kind, state) for kind, (state, _) in found.items()}:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"{has} expected, and there is {found}")


@pytest.fixture
def telling(world: World) -> Iterator[World]:
    """Stripe tells this server of all that changes there."""
    endpoint = listen(world.stripe, world.factory.url)
    yield world
    with world.stripe.account.lock:
        endpoints.delete(world.stripe.account, {}, endpoint)


async def test_what_stripe_sends_after_an_erasure_leaves_no_address(telling: World) -> None:
    world = telling
    shared, ada = await world.factory.person(Role.OWNER), await world.factory.person(Role.OWNER)
    await world.superuser.execute(
        "INSERT INTO memberships (id, organization_id, user_id, role, created_at) VALUES ($1, $2, $3, 'admin', now())",
        new_id(), shared.organization_id, ada.id,
    )  # fmt: skip
    kept = await world.customer(shared.organization_id, ada.email)
    gone = await world.customer(ada.organization_id, ada.email)
    world.stripe.account.knobs = StripeKnobs(drop=1)  # delivered late: after the last table has been walked
    await world.ask(ada)
    # Not by moving our clock: Stripe signs by its own.
    await world.superuser.execute("UPDATE erasure_requests SET due_at = now(), next_attempt_at = now()")
    await world.work_off()
    assert (await world.request(ada))["state"] == "done"
    for event in list(world.stripe.account.events.oldest_first()):
        if event.type in ECHO and event.object_id in (kept, gone):
            world.stripe.account.courier.resend(event)
    found = await until(world, kept, gone, has={(kind, "pending") for kind in ECHO})
    address = ada.email.encode()
    assert {kind for kind, (_, body) in found.items() if address in body} == ECHO
    customers = "SELECT id FROM billing_customers WHERE stripe_customer_id = ANY($1)"
    for row in await world.superuser.fetch(customers, [kept, gone]):
        assert await synchronize_now(world.resources, row["id"], within=30)
    none_of_ours = f"evt_{new_id().hex}"
    body: Any = event_body("account.updated", {"object": "account", "email": ada.email}, event_id=none_of_ours)
    assert (await post(world.factory.url, body)).status_code == 200
    handled = {(kind, "processed") for kind in ECHO} | {("account.updated", "ignored")}
    left = await until(world, kept, gone, none_of_ours, has=handled)
    assert not [kind for kind, (_, said) in left.items() if said], "the id and the type say that it came, for a year"
    sealed = await world.superuser.fetch("SELECT * FROM inbox WHERE body IS NOT NULL")
    assert not [row["type"] for row in sealed if address in opened(row)]
    assert not await canary.in_tables(world.superuser, ada.email)
    again = await post(world.factory.url, body)
    assert again.text == "known"
