"""The whole story of two people over HTTP, with the worker: from sign-up to a deleted account that came back."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from infra.sandbox.mail import MailSink
from service.core import clock
from tests.features.accounts.conftest import Post
from tests.support.client import Client
from tests.support.servers import RunningServer, RunningWorker

PASSWORD = "nine silver spoons in a drawer"


class Someone:
    """A person with a browser and a mailbox."""

    def __init__(self, name: str, browser: Client, post: Post) -> None:
        self.name, self.browser, self.post = name, browser, post
        self.email = f"{name.lower()}-{uuid4().hex[:8]}@example.com"

    async def sign_up(self) -> None:
        answer = await self.browser.submit("/sign-up", name=self.name, email=self.email, password=PASSWORD)
        assert answer.status_code == 303, answer.text
        link = await self.post.link(self.email, "verify")
        answer = await self.browser.submit(link, password=PASSWORD)
        assert answer.status_code == 303, answer.text

    async def log_in(self) -> None:
        answer = await self.browser.submit("/login", email=self.email, password=PASSWORD)
        assert answer.status_code == 303, answer.text


@pytest.mark.slow
async def test_two_people_share_an_indicator(server: RunningServer, worker: RunningWorker, mailbox: MailSink) -> None:
    post = Post(mailbox)
    async with Client(server.url) as first, Client(server.url) as second:
        ada, bob = Someone("Ada", first, post), Someone("Bob", second, post)

        await ada.sign_up()
        made = await first.submit("/organizations/new", name="Analytical Engines")
        assert made.status_code == 303, made.text
        assert "Create the first indicator" in await first.page("/dashboard")

        invited = await first.submit("/members/invitations", email=bob.email, role="member")
        assert invited.status_code == 303, invited.text
        invitation = await post.link(bob.email, "invitations")
        assert "Analytical Engines" in await second.page(invitation)
        await bob.sign_up()
        joined = await second.submit(f"{invitation}/acceptance")
        assert joined.status_code == 303, joined.text
        assert "Bob" in await first.page("/members")

        created = await second.submit("/indicators/new", name="Punched cards", description="Per hour", unit="cards")
        home = created.headers["location"]
        now = clock.now().replace(minute=0, second=0, microsecond=0)
        for hours in range(5, 0, -1):
            at = (now - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M")
            added = await second.submit(f"{home}/readings", page=home, at=at, value=str(40 + hours))
            assert added.status_code == 303, added.text
        dashboard = await first.page("/dashboard")
        assert "Punched cards" in dashboard
        assert ">41<" in dashboard

        deleted = await first.submit(f"{home}/delete", page=f"{home}/edit")
        assert deleted.status_code == 303
        assert "Punched cards" not in await second.page("/dashboard")
        restored = await second.submit(f"{home}/restore", page="/bin")
        assert restored.status_code == 303
        assert ">41<" in await first.page("/dashboard")
        log = await first.page("/audit-log")
        assert "Punched cards" in log or "indicator" in log.lower()

        gone = await second.submit("/account/deletion", email=bob.email)
        assert gone.status_code == 303, gone.text
        assert (await second.get("/dashboard")).headers["location"].startswith("/login")
        undo = await post.link(bob.email, "recover")
        back = await second.submit(undo)
        assert back.status_code == 303, back.text
        await bob.log_in()
        assert "Punched cards" in await second.page("/dashboard")
