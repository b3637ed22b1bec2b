"""A card number in every field of every form, JSON body and address: refused by name, and nowhere to be found later."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from fastapi import FastAPI
from markupsafe import escape

from infra.sandbox.mail import MailSink
from service.core.context import Resources
from service.guardrails import cards
from service.guardrails.cards import SENTENCE
from service.guardrails.permissions import Role
from tests.architecture import test_forms
from tests.architecture.conftest import Route
from tests.architecture.test_forms import SHOWN, every_form
from tests.support.client import Client
from tests.support.factories import Factory
from tests.support.servers import RunningWorker
from tests.web.conftest import Elements

PAN = "4000056655665556"
"""Stripe's test number for a debit card: no other test uses it, so whatever is found comes from here."""
WRITTEN = "4000-0566-5566-5556"
TAKEN = "5200828282828210"
"""Stays in the database of the tests, as proof that the scan would see it."""

stack = test_forms.stack


async def left_in(superuser: asyncpg.Connection[Any], resources: Resources, *numbers: str) -> list[str]:
    """The tables and the keys of Redis in which the number stands, as text or as bytes."""
    found = []
    tables = await superuser.fetch("SELECT quote_ident(tablename) AS name FROM pg_tables WHERE schemaname = 'public'")
    assert len(tables) >= 30, f"the scan saw only {len(tables)} tables"
    for row in tables:
        sought = [f"%{form}%" for pan in numbers or (PAN, WRITTEN) for form in (pan, pan.encode().hex())]
        if await superuser.fetchval(f"SELECT count(*) FROM {row['name']} AS t WHERE t::text LIKE ANY($1)", sought):
            found.append(row["name"])
    keys, redis = 0, resources.redis
    async for key in redis.scan_iter(count=1000):
        keys += 1
        kind = await redis.type(key)
        value = (
            await redis.get(key) if kind == b"string" else await redis.hgetall(key) if kind == b"hash"
            else await redis.zrange(key, 0, -1)
        )  # fmt: skip
        found += [repr(key)] if PAN in f"{key!r} {value!r}" or WRITTEN in f"{key!r} {value!r}" else []
    assert keys, "the scan saw nothing in Redis"
    return found


async def test_every_json_body_and_query_refuses_a_card(
    app: FastAPI, routes: list[Route], factory: Factory, stack: AsyncExitStack, capfd: pytest.CaptureFixture[str],
    superuser: asyncpg.Connection[Any], resources: Resources,
) -> None:  # fmt: skip
    owner = await factory.person(Role.OWNER)
    program = await stack.enter_async_context(await factory.client(owner))
    contract, bodies, fields, queries = app.openapi(), 0, 0, 0
    for path, operations in contract["paths"].items():
        address = path.removeprefix("/api/v1").replace("{at}", "2026-01-01T00:00:00Z")
        for name in ("indicator_id", "endpoint_id", "file_id", "delivery_id", "import_id", "key_id", "source_id"):
            address = address.replace(f"{{{name}}}", str(uuid4()))
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "query":
                    queries += 1
                    answer = await program.api(method.upper(), f"{address}?{parameter['name']}={WRITTEN}")
                    assert (answer.status_code, answer.json()["errors"]) == (
                        422, [{"field": parameter["name"], "message": SENTENCE}],
                    ), f"{method} {path}"  # fmt: skip
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content is None:
                continue
            bodies += 1
            names = properties(contract, content["schema"])
            assert names, f"{method} {path}: the body has no fields"
            fields += len(names)
            for value in (PAN, int(PAN), [f"pay with {WRITTEN}"], {"note": PAN}):
                answer = await program.api(method.upper(), address, dict.fromkeys(names, value))
                assert answer.status_code == 422, f"{method} {path}: {answer.text}"
                named = {error["field"].split(".")[0] for error in answer.json()["errors"]}
                assert named == set(names), f"{method} {path} says nothing of {set(names) - named}"
                assert PAN not in answer.text
            answer = await program.api(method.upper(), address, {}, **{"idempotency-key": WRITTEN})
            assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Idempotency-Key")
    assert (bodies, fields, queries) >= (7, 15, 10), f"the walk saw {bodies} bodies, {fields} fields, {queries} queries"
    pages = [
        (route.path, parameter.name) for route in routes if route.method == "GET" and not route.is_api
        for parameter in route.api_route.dependant.query_params if "{" not in route.path
    ]  # fmt: skip
    assert len(pages) >= 2
    for path, name in pages:
        answer = await program.get(f"{path}?{name}={WRITTEN}")
        assert answer.status_code == 422, f"{path}?{name}: {answer.status_code}"
        assert WRITTEN not in answer.text
    assert await left_in(superuser, resources) == []
    written = capfd.readouterr().out
    assert '"status":422' in written, "the scan saw no log"
    assert PAN not in written
    assert WRITTEN not in written


def properties(contract: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    if "$ref" in schema:
        schema = contract["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return list(schema.get("properties", {}))


async def test_every_form_refuses_a_card(
    routes: list[Route], factory: Factory, mailbox: MailSink, worker: RunningWorker, stack: AsyncExitStack,
    capfd: pytest.CaptureFixture[str], superuser: asyncpg.Connection[Any], resources: Resources,
) -> None:  # fmt: skip
    forms = fields = 0
    async for _, who, page, to in every_form(routes, factory, mailbox, stack):
        fields += await refuses(who, page, to)
        forms += 1
    assert forms >= test_forms.FORMS
    assert fields >= 60, f"the walk filled only {fields} fields"
    assert await left_in(superuser, resources) == []
    written = capfd.readouterr().out
    assert '"event":"request"' in written, "the scan saw no log"
    assert PAN not in written


async def refuses(client: Client, page: str, to: str) -> int:
    """Send the form with a card in all that can be typed or chosen; how many fields that were."""
    [form] = [text for text in SHOWN.findall(await client.page(page)) if f'method="post" action="{escape(to)}"' in text]
    controls = [(tag, attrs) for tag, attrs in Elements(form).found if "name" in attrs and tag != "button"]
    hidden = {attrs["name"]: attrs["value"] for tag, attrs in controls if attrs.get("type") == "hidden"}
    names = dict.fromkeys(attrs["name"] for tag, attrs in controls if attrs.get("type") not in ("hidden", "file"))
    answer = await client.post(to, **hidden, **dict.fromkeys(names, PAN))
    assert answer.status_code == 422, f"{to}: {answer.status_code} {answer.headers.get('location')}"
    assert answer.text.count(SENTENCE) >= len(names), f"{to}: not every field of {list(names)} is named"
    assert PAN not in answer.text, f"{to}: it comes back"
    return len(names)


async def test_the_walk_bites(
    factory: Factory, stack: AsyncExitStack, superuser: asyncpg.Connection[Any], resources: Resources,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Without the detector the number is taken, and the scan finds it: in the table, and in the audit trail."""
    person = await factory.person(Role.OWNER)
    program = await stack.enter_async_context(await factory.client(person))
    monkeypatch.setattr(cards, "is_card", lambda _: False)
    answer = await program.api("POST", "/indicators", {"name": f"Paid with {TAKEN}"})
    assert answer.status_code == 201
    assert {"indicators", "audit_log"} <= set(await left_in(superuser, resources, TAKEN))
