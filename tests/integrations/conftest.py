"""Peers that misbehave, over real sockets; one of them is Stripe, and the door to its API is open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from pydantic import SecretStr

from service.core.settings import Settings
from service.integrations.stripe.client import StripeApi
from tests.integrations.tiny_stripe import KEY, Stripe

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Peer = Callable[[Talk], Awaitable[int]]


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """Starts a server that does what it is told with each connection; answers its port."""
    async with AsyncExitStack() as stack:

        async def start(talk: Talk) -> int:
            async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                try:
                    await talk(reader, writer)
                except (ConnectionError, asyncio.CancelledError):
                    pass
                finally:
                    writer.close()

            server = await asyncio.start_server(accept, "127.0.0.1", 0)
            stack.callback(server.close)
            port: int = server.sockets[0].getsockname()[1]
            return port

        yield start


@pytest.fixture
async def far(peer: Peer) -> AsyncIterator[Stripe]:
    made = Stripe()
    address = f"http://127.0.0.1:{await peer(made.talk)}"
    made.settings = Settings(stripe_secret_key=SecretStr(KEY), stripe_api_base=address)
    yield made
    if made.hang is not None:
        made.hang.set()
    await asyncio.sleep(0)


@pytest.fixture
async def api(far: Stripe) -> AsyncIterator[StripeApi]:
    made = StripeApi(far.settings)
    yield made
    await made.aclose()
