"""Stripe and our flows as one machine: whatever is done in whatever order, what must always hold holds after each step.

Hypothesis draws the steps and, when one breaks a rule, shrinks them to the shortest story that does. The stories at the
end take one part away, and the machine notices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import run_state_machine_as_test
from pydantic import SecretStr

from service.core.features import load
from service.core.settings import Settings
from service.features import FEATURES
from service.features.billing.flows import apply
from service.integrations.stripe.readings import STATUSES
from tests.features.billing.machine.bench import Bench
from tests.features.billing.machine.judging import Billing

EXAMPLES, STEPS = 10, 25


@pytest.fixture(scope="module")
def bench(servers: Any, worker_name: str, settings: Settings) -> Iterator[Bench]:
    """A database of its own: its steps look at whole tables."""
    name = f"ballast_machine_{worker_name}"
    servers.postgres.create_database(name, template="ballast_template")
    addresses = {role: servers.postgres.url(f"ballast_{role}", name) for role in ("app", "owner", "maintenance")}
    load(FEATURES, "jobs")
    own = settings.model_copy(
        update={
            "database_url": SecretStr(addresses["app"]),
            "database_owner_url": SecretStr(addresses["owner"]),
            "database_maintenance_url": SecretStr(addresses["maintenance"]),
        }
    )
    made = Bench(own, servers.postgres.url("postgres", name))
    yield made
    made.close()
    servers.postgres.drop_database(name)


@pytest.fixture
def machine(bench: Bench) -> Billing:
    """One whose steps are told, not drawn."""
    Billing.bench = bench
    return Billing()


@pytest.mark.slow
def test_whatever_is_done_in_whatever_order_the_rules_hold(bench: Bench) -> None:
    Billing.bench = bench
    few = hypothesis_settings(max_examples=EXAMPLES, stateful_step_count=STEPS)
    run_state_machine_as_test(Billing, settings=few)


def overtaken(machine: Billing) -> None:
    """A worker stands still, another reads and writes what came since, the first wakes up and writes."""
    machine.begin("team")
    machine.deliver_all_of_them()
    machine.claim(at_once=True)
    machine.stand_still(dies=False)
    machine.change("business", silent=False)
    machine.deliver_all_of_them()
    machine.claim(at_once=True)
    for first in (False, True):
        machine.apply(first=first)
        machine.holds()


def told_meanwhile(machine: Billing) -> None:
    """A message comes between reading and writing."""
    machine.begin("team")
    machine.deliver_all_of_them()
    machine.claim(at_once=True)
    machine.change("business", silent=False)
    machine.deliver_all_of_them()
    machine.apply(first=True)
    machine.holds()


def lagging(machine: Billing) -> None:
    """The subscription ends, we are told and have written it, and Stripe's replica still says that it lives."""
    machine.begin("team")
    machine.deliver_all_of_them()
    machine.end()
    machine.deliver_all_of_them()
    machine.claim(at_once=True)
    machine.apply(first=True)
    machine.holds()
    machine.give_back()  # a refund: something to read again for
    machine.sweep_events()
    machine.claim(at_once=False)
    machine.read_a_replica_that_lags()
    machine.holds()


LOOSE = apply.COMPARE_AND_SET.replace("AND sync_version = $2", "AND $2::bigint IS NOT NULL")
FLAG = apply.COMPARE_AND_SET.replace("synced_gen = $3,", "synced_gen = greatest(dirty_gen, $3),")
BROKEN = {
    "no compare-and-set": (overtaken, "COMPARE_AND_SET", LOOSE, "went back"),
    "a flag, no generations": (told_meanwhile, "COMPARE_AND_SET", FLAG, "the copy is old"),
    "no guard of ends": (lagging, "TERMINAL", STATUSES, "went back|lives again"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_machine_notices_what_is_taken_away(machine: Billing, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    story, what, instead, complaint = BROKEN[name]
    assert getattr(apply, what) != instead
    story(machine)
    machine.teardown()
    monkeypatch.setattr(apply, what, instead)
    with pytest.raises(AssertionError, match=complaint):
        story(type(machine)())
