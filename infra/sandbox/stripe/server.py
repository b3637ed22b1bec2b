"""The stand-in for Stripe: its API, its pages and its deliveries on one port.

In a test: `with StripeStandIn() as stripe: ...`, then a `stripe.StripeClient` with `base_addresses={"api": address}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from pathlib import Path
from typing import Any

from starlette.applications import Starlette

from infra.sandbox.errors import SandboxError
from infra.sandbox.knobs import knob_routes
from infra.sandbox.pages import static_files
from infra.sandbox.ports import HOST
from infra.sandbox.standin import StandIn
from infra.sandbox.stripe import endpoints
from infra.sandbox.stripe.checkout_page import checkout_routes
from infra.sandbox.stripe.console import console_routes
from infra.sandbox.stripe.control import control_routes
from infra.sandbox.stripe.invoice_page import invoice_routes
from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.operations import OPERATIONS
from infra.sandbox.stripe.portal_page import portal_routes
from infra.sandbox.stripe.saving import load, save
from infra.sandbox.stripe.store import Account
from infra.sandbox.stripe.wire import api_routes

# What the service's settings say in development.
SECRET_KEY = "sk_test_ballast_sandbox"
WEBHOOK_SECRET = "whsec_ballast_sandbox_secret"
TICK_SECONDS = 0.5


class StripeStandIn(StandIn):
    """`secret_key` is what a client is configured with, `account` what is in it, `knobs` what goes wrong."""

    name = "Stripe stand-in"

    def __init__(
        self,
        port: int = 0,
        host: str = HOST,
        *,
        secret_key: str = SECRET_KEY,
        seed: int | None = None,
        webhook_url: str = "",
        state: Path | None = None,
    ) -> None:
        super().__init__(port, host)
        self.secret_key = secret_key
        # A database outlives a stand-in: ids must differ from one run to the next unless somebody wants them back.
        self.account = Account(self.address, secret_key, StripeKnobs(), secrets.randbits(32) if seed is None else seed)
        self._state = state
        self._saved_at = (0, 0.0)
        if state:
            try:
                load(self.account, state)
            except SandboxError:
                self._socket.close()
                raise
        if webhook_url:
            endpoints.add(self.account, webhook_url, secret=WEBHOOK_SECRET)

    @property
    def knobs(self) -> StripeKnobs:
        return self.account.knobs

    @knobs.setter
    def knobs(self, knobs: StripeKnobs) -> None:
        self.account.knobs = knobs

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                *api_routes(self.account, OPERATIONS),
                *control_routes(self.account),
                *console_routes(self.account),
                *checkout_routes(self.account),
                *invoice_routes(self.account),
                *portal_routes(self.account),
                *knob_routes(self),
                static_files(),
            ]
        )

    async def serve(self) -> None:
        ticking = asyncio.create_task(self._tick())
        try:
            async with self.account.courier.running():
                await super().serve()
        finally:
            ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking
            self._save()

    async def _tick(self) -> Any:
        """Time passes without anybody asking, too, and whoever is killed should have kept what was done."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            with self.account.lock:
                self.account.clock.catch_up()
            self._save()

    def _save(self) -> None:
        """Every request and every event takes a number: without a new one there is nothing new to keep."""
        reached = (self.account.store.counter, self.account.clock.ahead)
        if self._state and self._saved_at != reached:
            self._saved_at = reached
            save(self.account, self._state)
