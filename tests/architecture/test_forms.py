"""Every form of the product, filled with junk: it comes back with what was typed, says what is wrong, keeps secrets."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest
from markupsafe import escape

from infra.sandbox.mail import MailSink
from service.guardrails.permissions import Role
from tests.architecture.conftest import Route
from tests.architecture.planted import (
    api_key,
    billing_customer,
    ended_grant,
    erasure_request,
    inbox_message,
    restriction,
    suppression,
    webhook_endpoint,
)
from tests.architecture.reviewed import PUBLIC_ROUTES
from tests.features.accounts.conftest import PASSWORD, Post
from tests.features.accounts.test_second_factor import turn_on
from tests.support.client import Client
from tests.support.factories import Factory, Person
from tests.support.servers import RunningWorker
from tests.web.conftest import Elements

FORMS = 75
NOTHING_TO_TYPE = {
    "POST /login/provider/finish",
    "POST /account/provider/finish",
    "POST /privacy/choices/{purpose}/yes",
}
"""Our own page passes on what the other provider's redirect brought, or which words stood beside the button."""
PAGES = {
    "/staff/switches/{switch}": "/staff/switches",
    "/indicators/{indicator_id}/readings": "/indicators/{indicator_id}",
    "/members/{membership_id}/role": "/members",
    "/account/name": "/account",
    "/account/email": "/account",
    "/account/notifications/{kind}": "/account/notifications",
    "/privacy/restriction": "/privacy/choices",
    "/account/totp/confirmation": "/account/totp",
    "/webhook-endpoints/{endpoint_id}/replay": "/webhook-endpoints/{endpoint_id}",
    "/staff/billing/customers/{customer_id}/override": "/staff/billing/customers/{customer_id}",
    "/staff/billing/customers/{customer_id}/refund": "/staff/billing/customers/{customer_id}",
}
"""Where the form stands, if not at the address that it is sent to."""
JUNK = '<b>junk</b> & "quotes" \'' + "x" * 2_100
"""Longer than any field takes, and no number, date, address or code."""
SECRET = "a-password-" + "y" * 1_001
SHOWN = re.compile(r"<form[^>]*>.*?</form>", re.DOTALL)


def takes_fields(route: Route) -> bool:
    """Whether the handler, or a function beside it that it calls, reads a form."""
    handler = inspect.unwrap(route.endpoint)
    beside = [handler.__globals__.get(name) for name in handler.__code__.co_names]
    near = [one for one in beside if inspect.isfunction(one) and one.__module__ == handler.__module__]
    return any("Form.parse(" in inspect.getsource(one) for one in (handler, *near))


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def test_every_form_comes_back_with_what_was_typed(
    routes: list[Route], factory: Factory, mailbox: MailSink, worker: RunningWorker, stack: AsyncExitStack
) -> None:
    seen = set()
    async for route, who, page, to in every_form(routes, factory, mailbox, stack):
        await comes_back(who, page, to)
        seen.add(str(route))
    assert len(seen) == FORMS, f"the walk saw these forms; count anew whether that is all there are: {sorted(seen)}"


async def every_form(
    routes: list[Route], factory: Factory, mailbox: MailSink, stack: AsyncExitStack
) -> AsyncIterator[tuple[Route, Client, str, str]]:
    """Each route that takes a form, with somebody who may send it, the page it stands on, and its address."""
    owner = await factory.person(Role.OWNER, password=PASSWORD)
    somebody = await stack.enter_async_context(await factory.client(owner, "password", "totp"))
    nobody, half, fresh = [await stack.enter_async_context(await factory.client()) for _ in range(3)]
    await somebody.submit("/account/totp", page="/account/security")
    await factory.superuser.execute("UPDATE users SET is_staff = true WHERE id = $1", owner.id)
    things = await plant(factory, owner)
    links = {
        "/staff/rate-limits": f"/staff/rate-limits?kind=organization&q={owner.organization_id}",
        "/verify/{link}": await link(fresh, factory, mailbox, "verify", verified=False),
        "/reset/{link}": await link(fresh, factory, mailbox, "reset", verified=True),
    }
    await begin_login(half, factory, stack)
    for route in routes:
        if route.method != "POST" or route.is_api or str(route) in NOTHING_TO_TYPE or not takes_fields(route):
            continue
        who = half if route.path == "/login/code" else nobody if str(route) in PUBLIC_ROUTES else somebody
        to = links.get(route.path) or route.path.format(**things)
        yield route, who, PAGES.get(route.path, to).format(**things), to


async def plant(factory: Factory, owner: Person) -> dict[str, str]:
    """What the addresses name: a member, a switch, an indicator with one reading, a customer, a message."""
    assert owner.organization_id is not None
    await factory.plan(owner.organization_id)  # the reading is older than what the free plan shows
    member = await factory.person(Role.VIEWER, owner.organization_id)
    indicator, at = await factory.indicator(owner.organization_id), datetime(2026, 1, 2, tzinfo=UTC)
    await factory.superuser.execute(
        "INSERT INTO readings (organization_id, indicator_id, at, value) VALUES ($1, $2, $3, 1)",
        owner.organization_id, indicator, at,
    )  # fmt: skip
    membership = await factory.superuser.fetchval("SELECT id FROM memberships WHERE user_id = $1", member.id)
    return {
        "indicator_id": str(indicator),
        "at": "2026-01-02T00:00:00Z",
        "membership_id": str(membership),
        "person_id": str(member.id),
        "grant_id": await ended_grant(factory, owner.organization_id, None),
        "customer_id": await billing_customer(factory, owner.organization_id, owner),
        "organization_id": str(owner.organization_id),
        "message_id": await inbox_message(factory, owner.organization_id, owner),
        "endpoint_id": await webhook_endpoint(factory, owner.organization_id, owner, state="active"),
        "switch": "stop_mail",
        "source_id": str(await factory.source(owner.organization_id, "github")),
        "system": "github",
        "kind": "role_changed",
        "suppression_id": await suppression(factory, owner.organization_id, owner),
        "request_id": await erasure_request(factory, owner.organization_id, owner),
        "limit_id": await restriction(factory, owner.organization_id, owner),
        "key_id": await api_key(factory, owner.organization_id, owner),
    }


async def comes_back(client: Client, page: str, to: str) -> None:
    [form] = [text for text in SHOWN.findall(await client.page(page)) if f'method="post" action="{escape(to)}"' in text]
    sent, typed = {}, []
    elements = Elements(form)
    controls = [(tag, attrs) for tag, attrs in elements.found if "name" in attrs and tag != "button"]
    choices = [attrs["value"] for attrs in elements.named("option")]
    for tag, attrs in controls:
        name, kind = attrs["name"], attrs.get("type", tag)
        if kind == "hidden":
            sent[name] = attrs["value"]
        elif kind == "password":
            sent[name] = SECRET
        elif tag == "select" and len(controls) > len(elements.named("input", type="hidden")) + 1:
            sent[name] = choices[-1]
            typed.append(f'<option value="{choices[-1]}" selected>')
        elif kind != "checkbox":
            sent[name] = JUNK + name
            # A list has no place for what is not on it.
            typed += [] if tag == "select" else [str(escape(JUNK + name))]
    answer = await client.post(to, **sent)
    assert 400 <= answer.status_code < 500, f"{to}: {answer.status_code} {answer.headers.get('location')}"
    assert 'role="alert"' in answer.text, f"{to}: nothing says what is wrong"
    assert 'class="error"' in answer.text, f"{to}: nothing stands beside the field"
    assert f'action="{escape(to)}"' in answer.text, f"{to}: the form is gone"
    assert all(text in answer.text for text in typed), f"{to}: what was typed is lost"
    assert SECRET not in answer.text, f"{to}: a password comes back"


async def link(client: Client, factory: Factory, mailbox: MailSink, path: str, *, verified: bool) -> str:
    """The address behind a mailed link, which somebody asked for."""
    person = await factory.person(Role.MEMBER, verified=verified, password=PASSWORD)
    await client.submit("/forgot" if verified else "/verify", email=person.email)
    return await Post(mailbox).link(person.email, path)


async def begin_login(client: Client, factory: Factory, stack: AsyncExitStack) -> None:
    """As far as the page that asks for the code."""
    person = await factory.person(Role.MEMBER, password=PASSWORD)
    await turn_on(await stack.enter_async_context(await factory.client(person)))
    answer = await client.submit("/login", email=person.email, password=PASSWORD)
    assert answer.headers["location"] == "/login/code"
