"""Whether an address is known shows in no answer's time: not when logging in, not wherever else one is typed in.

Judged by the work that is done, not by the clock, which also measures the neighbours of a busy machine.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest

from service.core import telemetry
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
PAIRS = 7


class Work(NamedTuple):
    """Of the web server's threads: seconds of CPU, and statements sent."""

    seconds: float
    statements: int


def worked() -> float:
    """Seconds of CPU so far of the server's event loop and of the threads that hash for it."""
    threads = [one for one in threading.enumerate() if one.name == "server" or one.name.startswith("argon2")]
    clocks = [time.pthread_getcpuclockid(one.ident) for one in threads if one.ident is not None]
    assert clocks
    return sum(map(time.clock_gettime, clocks))


async def known_address(factory: Factory, door: str, password_hash: str) -> str:
    """One for which this door has something to do: /verify mails to the unconfirmed, /recover to the deleted."""
    person = await factory.person(verified=door != "/verify")
    await factory.superuser.execute("UPDATE users SET password_hash = $2 WHERE id = $1", person.id, password_hash)
    if door == "/recover":
        await factory.superuser.execute(
            "UPDATE users SET deleted_at = now(), deletion_id = id WHERE id = $1", person.id
        )
    return person.email


async def work(client: Client, door: str, email: str) -> Work:
    status, fields = DOORS[door]
    token = await csrf(client)
    sent: list[str] = []

    def listen(sql: str) -> None:
        if threading.current_thread().name == "server":
            sent.append(sql)

    telemetry.statement_listeners.append(listen)
    before = worked()
    try:
        answer = await client.post(door, csrf=token, email=email, **fields)
    finally:
        telemetry.statement_listeners.remove(listen)
    assert answer.status_code == status, answer.text[:500]
    return Work(worked() - before, len(sent))


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
async def test_a_known_address_takes_no_longer_than_an_unknown_one(
    door: str, browser: Callable[[], Client], factory: Factory
) -> None:
    """Compares pairs, one right after the other. Without the dummy hash an unknown address logs in in a tenth."""
    hashed = await passwords.hash_password(PASSWORD)
    await work(browser(), door, new_address())
    ratios, more = [], []
    for number in range(PAIRS):
        addresses = {"known": await known_address(factory, door, hashed), "unknown": new_address()}
        order = sorted(addresses, reverse=number % 2 > 0)
        took = {kind: await work(browser(), door, addresses[kind]) for kind in order}
        more.append(took["known"].statements - took["unknown"].statements)
        ratios.append(took["unknown"].seconds / took["known"].seconds)
    assert statistics.median(more) == 0, f"statements more for known addresses: {more}"
    ratio = statistics.median(ratios)
    assert 0.67 < ratio < 1.5, f"unknown addresses take {ratio:.2f} times as long as known ones: {ratios}"
