"""The world for the attacks, and the application's routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.abuse.world import World
from tests.architecture.conftest import app as app
from tests.architecture.conftest import routes as routes
from tests.architecture.planted import WORDS
from tests.support.factories import Factory


@pytest.fixture
async def world(factory: Factory) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield await World(factory, stack).begin()
    # A switch is for everybody: the next test is not to find one that an attack has turned.
    await factory.superuser.execute("DELETE FROM switches WHERE name = $1", WORDS["switch"])
