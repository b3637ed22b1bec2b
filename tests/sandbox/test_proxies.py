"""A machine behind a company's proxy runs the tests and the demo like any other."""

from __future__ import annotations

import os

import httpx
import pytest

from infra.sandbox.ports import free_port
from infra.sandbox.proxies import NAMES, forget_proxies
from infra.sandbox.receiver import Receiver


async def test_who_lives_on_this_machine_is_not_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [name for name in os.environ if name.lower() in NAMES], "the tests' own process"
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Receiver() as receiver:
        with pytest.raises(httpx.ConnectError):
            async with httpx.AsyncClient() as believing:
                await believing.get(receiver.address)
        forget_proxies()
        async with httpx.AsyncClient() as believing:
            assert (await believing.get(receiver.address)).status_code < 500
