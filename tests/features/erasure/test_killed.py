"""A worker process is killed in the middle of an erasure, after Stripe has done its part and before anybody noted it:
another one goes on where it stopped, and nobody hears of anything twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from infra.sandbox.stripe.knobs import StripeKnobs
from service.core import clock
from service.core.settings import Settings
from service.features.erasure.flows.steps import STEPS
from tests.features.erasure.world import World
from tests.support.factories import Person
from tests.support.processes import started

pytest_plugins = ("tests.guardrails.durability", "tests.features.erasure.planet")
OWN = (
    "database_url", "database_owner_url", "database_maintenance_url", "base_url", "mail_through", "sendgrid_api_base",
    "storage_url", "redis_namespace",
)  # fmt: skip
"""What this world does not share with the other tests', whose settings are in the environment."""


def variables(settings: Settings) -> dict[str, str]:
    def plain(value: Any) -> str:
        return str(value.get_secret_value() if isinstance(value, SecretStr) else value)

    return {name.upper(): plain(getattr(settings, name)) for name in OWN}


async def emptied(world: World, customer: str) -> None:
    for _ in range(2_000):
        if not (world.at_stripe(customer) or {})["email"]:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the worker never came as far as Stripe")


@pytest.mark.slow
async def test_a_killed_worker_leaves_the_rest_to_another(
    world: World, person: Person, erasure_settings: Settings
) -> None:
    customer = await world.customer(person.organization_id, person.email)
    await world.ask(person)
    await world.superuser.execute("UPDATE erasure_requests SET due_at = now(), next_attempt_at = now()")
    world.stripe.account.knobs = StripeKnobs(api_answer_late=20)
    async with started("worker", **variables(erasure_settings)) as (process, _):
        await emptied(world, customer)
        process.kill()  # SIGKILL: no handler, no `finally`
        assert await process.wait() == -9
    world.stripe.account.knobs = StripeKnobs()
    before = await world.steps(person)
    assert list(before) == ["close", "farewell", "files"], "done at Stripe, and not noted"
    assert (await world.request(person))["state"] == "executing"
    await world.work_off()
    assert await world.steps(person) == before, "its lease holds for minutes"
    clock.advance(timedelta(minutes=4))
    await world.work_off()
    after = await world.steps(person)
    assert (list(after), await world.exists(person)) == (list(STEPS), False)
    assert {name: after[name] for name in before} == before, "what was noted is not done again"
    assert (await world.request(person))["state"] == "done"
    told = [mail.subject for mail in world.sendgrid.inbox.to(person.email)]
    assert told.count("We erase your data now") == 1
    assert list(world.sendgrid.erased).count(person.email) == 1
    with world.stripe.account.lock:
        changes = [one for one in world.stripe.account.events.oldest_first() if one.object_id == customer]
    assert [one.type for one in changes] == ["customer.created", "customer.updated"], "asked twice, done once"
