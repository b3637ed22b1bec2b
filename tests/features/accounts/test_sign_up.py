"""Signing up: by mail and password, and nothing that tells a stranger who has an account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import asyncpg

from tests.features.accounts.conftest import OTHER_PASSWORD, PASSWORD, Post, can_enter, is_logged_in, user_row
from tests.support.client import Client
from tests.support.factories import Person


def new_address() -> str:
    return f"new-{uuid4().hex[:12]}@example.com"


async def sign_up(client: Client, email: str, password: str = PASSWORD, **more: str) -> Any:
    return await client.submit("/sign-up", name="Nora New", email=email, password=password, **more)


async def test_sign_up_confirm_and_be_in(visitor: Client, post: Post) -> None:
    email = new_address()
    answer = await sign_up(visitor, f"  {email.upper()} ")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-up/sent")
    assert not is_logged_in(visitor)
    link = await post.link(email, "verify")
    shown = await visitor.get(link)
    assert shown.status_code == 200
    assert email in shown.text
    assert shown.headers["referrer-policy"] == "no-referrer"
    done = await visitor.submit(link, password=PASSWORD)
    assert done.status_code == 303
    assert await can_enter(visitor)
