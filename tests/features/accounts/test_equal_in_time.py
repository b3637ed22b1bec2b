"""Whether an address is known shows in no answer's time: not when logging in, not wherever else one is typed in."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

import pytest

from service.features.accounts.models import passwords
from tests.features.accounts.conftest import OTHER_PASSWORD, PASSWORD
from tests.features.accounts.test_sign_up import csrf, new_address
from tests.support.client import Client
from tests.support.factories import Factory

DOORS: dict[str, tuple[int, dict[str, str]]] = {
    "/login": (422, {"password": OTHER_PASSWORD}),
    "/sign-up": (303, {"password": PASSWORD, "name": "Nora New"}),
    "/forgot": (303, {}),
    "/verify": (303, {}),
    "/recover": (303, {}),
}
"""Where a stranger can type an address: the answer, whoever asks, and what else the form sends."""
EACH = 15


async def known_address(factory: Factory, door: str, password_hash: str) -> str:
    """One for which this door has something to do: /verify mails to the unconfirmed, /recover to the deleted."""
    person = await factory.person(verified=door != "/verify")
    await factory.superuser.execute("UPDATE users SET password_hash = $2 WHERE id = $1", person.id, password_hash)
    if door == "/recover":
        await factory.superuser.execute(
            "UPDATE users SET deleted_at = now(), deletion_id = id WHERE id = $1", person.id
        )
    return person.email


async def seconds(client: Client, door: str, email: str) -> float:
    status, fields = DOORS[door]
    token = await csrf(client)
    began = time.perf_counter()
    answer = await client.post(door, csrf=token, email=email, **fields)
    taken = time.perf_counter() - began
    assert answer.status_code == status, answer.text[:500]
    return taken


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
async def test_a_known_address_takes_no_longer_than_an_unknown_one(
    door: str, browser: Callable[[], Client], factory: Factory
) -> None:
    """Compares medians of interleaved attempts. Without the dummy hash an unknown address logs in in a tenth."""
    hashed = await passwords.hash_password(PASSWORD)
    attempts = [("known", await known_address(factory, door, hashed)) for _ in range(EACH)]
    attempts += [("unknown", new_address()) for _ in range(EACH)]
    random.shuffle(attempts)
    await seconds(browser(), door, new_address())
    taken: dict[str, list[float]] = {"known": [], "unknown": []}
    for kind, email in attempts:
        taken[kind].append(await seconds(browser(), door, email))
    ratio = statistics.median(taken["unknown"]) / statistics.median(taken["known"])
    assert 0.67 < ratio < 1.5, f"unknown addresses take {ratio:.2f} times as long as known ones"
