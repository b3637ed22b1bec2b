"""A colleague with a second factor, in a browser."""

from __future__ import annotations

from tests.support.client import Client

WHY = "Ticket 4711: cannot log in since Monday"


async def say_why(staff: Client, path: str) -> None:
    page = f"/staff/reasons?next={path}"
    answer = await staff.submit("/staff/reasons", page=page, next=path, reason=WHY)
    assert answer.headers["location"] == path
