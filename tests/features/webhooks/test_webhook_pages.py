"""The pages: an admin adds an endpoint, sees its secret, tests, pauses, replays; nobody else sees that there is one."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from service.core import clock
from service.features.webhooks.actions import MOST_ENDPOINTS
from service.guardrails.permissions import Role
from tests.features.webhooks.conftest import Post

HOME = "/webhook-endpoints"


async def test_from_a_new_endpoint_to_its_first_message(post: Post) -> None:
    assert "No endpoints yet" in await post.admin.page(HOME)
    unticked = await post.admin.submit(f"{HOME}/new", url=post.receiver.url, description="Ours")
    assert unticked.status_code == 422
    assert "Choose at least one event." in unticked.text
    made = await post.admin.submit(f"{HOME}/new", url=post.receiver.url, description="Ours", member_joined="on")
    assert made.status_code == 303, made.text
    page = made.headers["location"]
    shown = await post.admin.page(page)
    assert "whsec_" not in shown
    revealed = await post.admin.submit(f"{page}/secret", page=page)
    secret = re.search(r"whsec_[\w+/=]+", html.unescape(revealed.text))
    assert secret
    post.receiver.secrets.append(secret[0])
    await post.admin.submit(f"{page}/test", page=page)
    assert await post.send() == 1
    [arrived] = post.receiver.arrivals
    assert (arrived.type, bool(arrived.verified)) == ("endpoint.test", True)
    [href] = re.findall(r'"(/webhook-deliveries/[\w-]+)"', await post.admin.page(page))
    detail = await post.admin.page(href)
    assert "thank you" in detail
    assert arrived.message_id in detail
    assert "Delivered" in await post.admin.page(f"{page}?state=delivered")
    assert "No such messages" in await post.admin.page(f"{page}?state=failed")
    assert (await post.admin.get(f"{page}?state=nonsense")).status_code == 422


async def test_editing_pausing_deleting_and_back(post: Post) -> None:
    endpoint = await post.endpoint()
    page = f"{HOME}/{endpoint}"
    assert "checked" in await post.admin.page(f"{page}/edit")
    await post.admin.submit(f"{page}/edit", url=post.receiver.url, description="New", plan_changed="on", ordered="on")
    row = await post.row("webhook_endpoints", endpoint)
    assert (row["event_types"], row["ordered"], row["description"]) == (["plan.changed"], True, "New")
    await post.message(endpoint)
    await post.admin.submit(f"{page}/pause", page=page)
    assert "Paused" in await post.admin.page(page)
    assert await post.send() == 0
    again = await post.admin.submit(f"{page}/test", page=page)
    assert again.status_code == 303
    assert "not active" in await post.admin.page(page)
    await post.admin.submit(f"{page}/enable", page=page)
    assert await post.send() == 1
    waiting = await post.message(endpoint)
    await post.admin.submit(f"/webhook-deliveries/{waiting}/skip", page=f"/webhook-deliveries/{waiting}")
    assert (await post.row("webhook_deliveries", waiting))["state"] == "failed"
    await post.message(endpoint)
    await post.admin.submit(f"{page}/delete", page=f"{page}/edit")
    assert await post.send() == 0
    assert (await post.admin.get(page)).status_code == 404
    await post.admin.submit(f"{page}/restore", page=f"{HOME}?deleted=true")
    assert await post.send() == 1


async def test_there_is_an_end_to_endpoints(post: Post) -> None:
    for number in range(MOST_ENDPOINTS):
        await post.endpoint(f"{post.receiver.url}?n={number}")
    answer = await post.admin.submit(f"{HOME}/new", url=post.receiver.url, description="", plan_changed="on")
    assert answer.status_code == 422
    assert f"at most {MOST_ENDPOINTS} endpoints" in answer.text


async def test_the_secret_asks_for_the_password_again_and_is_written_down(post: Post) -> None:
    endpoint = await post.endpoint()
    page = f"{HOME}/{endpoint}"
    await post.admin.submit(f"{page}/secret", page=page)
    noted = await post.superuser.fetchval(
        "SELECT count(*) FROM audit_log WHERE organization_id = $1 AND action = 'webhooks.show_secret'",
        post.organization,
    )
    assert noted == 1
    clock.advance(timedelta(minutes=20))
    asked = await post.admin.submit(f"{page}/secret", page=page)
    assert asked.status_code == 303
    assert asked.headers["location"].startswith("/confirm")


async def test_staff_see_who_fails_and_no_more(post: Post) -> None:
    failing = await post.endpoint(f"{post.receiver.url}/t0ken-in-path", failing_since=clock.now(), failures=3)
    fine = await post.endpoint(f"{post.receiver.url}?fine")
    async with await post.factory.client(await post.factory.person(staff=True), "password", "totp") as staff:
        shown = await staff.page("/staff/webhooks")
    assert str(post.organization) in shown
    assert str(urlsplit(post.receiver.url).hostname) in shown
    assert "t0ken-in-path" not in shown, "a customer's address often carries what opens a door"
    assert "?fine" not in shown
    assert "whsec_" not in shown
    assert str(failing) != str(fine)
    async with await post.factory.client(await post.factory.person(Role.OWNER)) as stranger:
        assert (await stranger.get("/staff/webhooks")).status_code == 404
        assert (await stranger.get(f"{HOME}/{failing}")).status_code == 404


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MEMBER])
async def test_who_is_no_admin_sees_none_of_it(post: Post, role: Role) -> None:
    async with await post.factory.client(await post.factory.person(role, post.organization)) as person:
        assert (await person.get(HOME)).status_code == 403
        assert HOME not in await person.page("/indicators")
