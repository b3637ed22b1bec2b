"""Web and worker killed, PostgreSQL restarted, Redis emptied, Stripe at its worst: then quiet, and all is right.

BALLAST_STORM_SEED repeats a storm (the same people, disasters and faults; the machine's own pace is its own), and
BALLAST_STORM_ROUNDS makes it longer, with every disaster and more people: `make chaos`. `make test` draws some of them.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import select

from infra.sandbox.stripe.knobs import StripeKnobs
from service.core.features import load
from service.features import FEATURES
from service.features.billing.flows.diff import diff
from service.features.billing.flows.reconcile import compare_objects
from service.features.billing.models import BillingCustomer
from tests.features.billing.storm.people import Household, settle_in
from tests.features.billing.storm.truth import (
    MIXED,
    STUCK,
    Superuser,
    listed,
    tenant_rows,
    wrong_about,
    wrong_mails,
)
from tests.features.billing.storm.world import World, world

PEOPLE_IN_SHORT, PEOPLE = 8, 20
DISASTERS_IN_SHORT, DISASTERS = 4, 9
LIFE_BETWEEN = 3
QUIET_SECONDS = 240.0
SWEEPS = 5
BAD_DAY = {
    "delay_max": 0.5, "duplicate": 0.2, "duplicate_within": 0.5, "reorder_window": 0.5, "drop": 0.1, "twin": 0.1,
    "bad_signature": 0.05, "receiver_timeout": 3, "retry_factor": 0.001, "api_latency_max": 0.2,
    "api_error_before": 0.03, "api_error_after": 0.03, "api_429": 0.03, "api_lost": 0.03,
}  # fmt: skip
# Time that passes: for leases and picked jobs whose holders are dead, and for the pauses between two attempts. Jobs are
# last: many wait for a reading or for another change, and would use their attempts up before it is there.
DEAD_HOLDERS = """
    UPDATE billing_customers SET lease_until = now() WHERE lease_token IS NOT NULL;
    UPDATE billing_operations SET next_attempt_at = now() WHERE status = 'in_flight';
    UPDATE pgqueuer SET heartbeat = now() - interval '1 hour' WHERE status = 'picked';
    UPDATE billing_sweeps SET ran_at = 'epoch' WHERE stream = 'events'
"""
NO_PAUSES = """
    UPDATE billing_customers SET next_attempt_at = now() WHERE lease_token IS NULL AND next_attempt_at > now();
    UPDATE billing_operations SET next_attempt_at = now() WHERE status IN ('planned', 'unknown');
    UPDATE inbox SET next_attempt_at = now() WHERE state = 'unmatched';
    UPDATE pgqueuer SET execute_after = now() WHERE status = 'queued' AND execute_after > now()
        AND NOT EXISTS (SELECT FROM billing_customers WHERE dirty_gen > synced_gen)
        AND NOT EXISTS (SELECT FROM billing_operations WHERE status IN ('planned', 'in_flight', 'unknown'))
"""


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_scenarios_69_71_72_after_the_storm_everything_is_right(tmp_path: Path) -> None:
    seed = int(os.environ.get("BALLAST_STORM_SEED") or secrets.randbelow(2**31))
    rounds = int(os.environ.get("BALLAST_STORM_ROUNDS") or 0)
    people, disasters = (PEOPLE, DISASTERS) if rounds else (PEOPLE_IN_SHORT, DISASTERS_IN_SHORT)
    rounds = rounds or 1
    load(FEATURES, "jobs")
    async with world(tmp_path, seed) as scene:
        superuser = await scene.connect()
        homes = await settle_in(scene, superuser, seed, people)
        planted = await tenant_rows(superuser)
        await superuser.close()
        for _ in range(rounds):
            await rage(scene, homes, Random(f"{seed}/{len(scene.told)}"), seed, disasters)
        superuser = await scene.connect()
        try:
            found = await calm(scene, superuser)
            found += await judge(scene, superuser, homes)
            if await tenant_rows(superuser) != planted:
                found.append("rows of tenants are gone, or came from nowhere")
        finally:
            await superuser.close()
        done = sum((home.done for home in homes), start=type(homes[0].done)())
    story = f"BALLAST_STORM_SEED={seed}, {rounds} rounds: {', '.join(scene.told)}; people did {dict(done)}"
    print(story)
    assert not found, "\n".join([story, *found])
    assert sum(done.values()) > people, f"hardly anybody did anything: {story}"


async def rage(scene: World, homes: list[Household], random: Random, seed: int, disasters: int) -> None:
    """People live while one disaster follows the other."""
    scene.stripe.knobs = StripeKnobs.model_validate({"seed": seed, **BAD_DAY})

    async def alive() -> None:
        """A few more things were done: on a slow machine a start takes longer than all disasters together."""
        enough = acts(homes) + LIFE_BETWEEN
        with suppress(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                while acts(homes) < enough:
                    await asyncio.sleep(0.1)

    living = [asyncio.create_task(home.live()) for home in homes]
    try:
        await scene.strike(random, disasters, alive)
    finally:
        for task in living:
            task.cancel()
        ends = await asyncio.gather(*living, return_exceptions=True)
    broken = [end for end in ends if isinstance(end, Exception)]
    if broken:
        raise broken[0]


def acts(homes: list[Household]) -> int:
    return sum(sum(home.done.values()) for home in homes)


async def calm(scene: World, superuser: Superuser) -> list[str]:
    """Both die a last time, Stripe is well, time passes; then the sweeps, as the product runs them every night."""
    for part in (scene.web, scene.worker):
        part.kill()
    scene.stripe.knobs = StripeKnobs(retry_factor=0.001)
    await superuser.execute(DEAD_HOLDERS)
    for part in (scene.web, scene.worker):
        part.start()
    for part in (scene.web, scene.worker):
        await part.answers()
    resources, drift = scene.resources, {}
    assert resources.maintenance is not None
    for pool in (resources.database, resources.maintenance):
        await pool.dispose()  # whose connections the storm has cut
    for _ in range(SWEEPS):
        stuck = await quiet(scene, superuser)
        drift = {} if stuck else await compare_objects(resources, resources.maintenance, full=True, settle=1.0)
        if not drift:
            break
    return stuck + [f"the last sweep found {drift}"] * bool(drift)


async def quiet(scene: World, superuser: Superuser) -> list[str]:
    """What is still on its way when there was time for everything is stuck."""
    ends = time.monotonic() + QUIET_SECONDS
    while True:
        await superuser.execute(NO_PAUSES)
        await asyncio.sleep(0.3)
        found = await listed(superuser, STUCK)
        if waiting := scene.stripe.account.courier.pending():
            found.append(f"{waiting} deliveries are on the way")
        if not found or time.monotonic() > ends:
            return found


async def judge(scene: World, superuser: Superuser, homes: list[Household]) -> list[str]:
    """Everybody, in our words and in those of the product's own comparison."""
    found = await listed(superuser, MIXED)
    customer = select(BillingCustomer)
    for home in homes:
        found += await wrong_about(superuser, home)
        async with scene.resources.database.unit_of_work(tenant=home.organization) as work:
            row = (await work.session.execute(customer.where(BillingCustomer.id == home.customer_id))).scalar_one()
        found += [str(one) for one in await diff(scene.resources, row)]
    return found + await wrong_mails(superuser, homes, scene.mailbox.messages)
