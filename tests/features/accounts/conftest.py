"""Browsers at addresses of their own, and what their mailboxes received."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from infra.sandbox.mail import MailSink, Message
from tests.support.client import Client
from tests.support.factories import Factory, Person
from tests.support.servers import RunningServer, RunningWorker

PASSWORD = "seven green bottles on the wall"
OTHER_PASSWORD = "eight brown horses in the rain"


@pytest.fixture
async def browser(server: RunningServer) -> AsyncIterator[Callable[[], Client]]:
    """Makes browsers; each calls from another network, so that limits of one test never reach another."""
    made: list[Client] = []

    def make() -> Client:
        client = Client(server.url)
        client.http.headers["x-forwarded-for"] = ".".join(str(random.randint(1, 220)) for _ in range(4))
        made.append(client)
        return client

    yield make
    for client in made:
        await client.http.aclose()


@pytest.fixture
def visitor(browser: Callable[[], Client]) -> Client:
    return browser()


class Post:
    """Waits for what the worker sends."""

    def __init__(self, sink: MailSink) -> None:
        self._sink = sink

    async def to(self, address: str, *, count: int = 1, about: str = "") -> list[Message]:
        """The mails for one address, oldest first, as soon as there are so many (whose subject says so)."""
        for _ in range(3_000):
            found = [message for message in self._sink.to(address) if about in message.subject]
            if len(found) >= count:
                return found[::-1]
            await asyncio.sleep(0.02)
        raise AssertionError(f"{len(self._sink.to(address))} of {count} mails came for {address}")

    async def link(self, address: str, path: str, *, count: int = 1) -> str:
        """The path of the newest link to `path`, as soon as there are so many of them for the address."""
        return (await self.links(address, path, count=count))[-1]

    async def links(self, address: str, path: str, *, count: int) -> list[str]:
        found: list[str] = []
        for _ in range(3_000):
            found = [
                f"/{path}/" + link.partition(f"/{path}/")[2]
                for message in reversed(self._sink.to(address))
                for link in message.links
                if f"/{path}/" in link
            ]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"{len(found)} of {count} links to /{path}/ came for {address}")

    async def subjects(self, address: str, *, count: int) -> list[str]:
        return [message.subject for message in await self.to(address, count=count)]

    async def nothing_for(self, address: str, witness: Callable[[], Awaitable[str]]) -> None:
        """No mail came, although one that was asked for later has come: `witness` asks for it and names its address."""
        known = len(self._sink.to(address))
        await self.to(await witness())
        assert len(self._sink.to(address)) == known


@pytest.fixture
def post(mailbox: MailSink, worker: RunningWorker) -> Post:
    return Post(mailbox)


LogIn = Callable[..., Awaitable[Client]]


@pytest.fixture
def logged_in(browser: Callable[[], Client]) -> LogIn:
    """Logs a planted person in through the login page, in a new browser."""

    async def log_in(person: Person, password: str = PASSWORD) -> Client:
        client = browser()
        answer = await client.submit("/login", email=person.email, password=password)
        assert answer.status_code == 303, answer.text
        return client

    return log_in


@pytest.fixture
async def person(factory: Factory) -> Person:
    return await factory.person(password=PASSWORD)


async def user_row(superuser: asyncpg.Connection[Any], email: str) -> asyncpg.Record:
    row = await superuser.fetchrow("SELECT * FROM users WHERE email = $1", email)
    assert row is not None
    return row


def is_logged_in(client: Client) -> bool:
    return "sid" in client.http.cookies


async def can_enter(client: Client) -> bool:
    """Whether the account page opens; the session cookie alone proves nothing."""
    return (await client.get("/account")).status_code == 200
