"""Every route that reads JSON, given a right body with one wrong thing in it: a clear problem, no 500, no echo."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from service.core import clock
from service.core.errors import PayloadTooLarge
from service.guardrails import api_keys, strict_json
from service.guardrails.permissions import Role
from service.guardrails.strict_json import check_json
from tests.architecture.conftest import app as app
from tests.architecture.conftest import routes_of
from tests.support.client import Client
from tests.support.factories import Factory

HOSTILE_JSON = {
    "lone surrogate": b'{"name": "\\ud800"}',
    "NUL": b'{"name": "a\\u0000b"}',
    "NaN": b'{"name": "x", "unit": NaN}',
    "1e999": b'{"at": "2026-01-01T00:00:00Z", "value": 1e999}',
    "2^63": b'{"at": "2026-01-01T00:00:00Z", "value": 9223372036854775808}',
    "huge digits": b'{"value": ' + b"9" * 10_000 + b"}",
    "deep nesting": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "20 MB": b'{"name": "' + b"x" * 20_000_000 + b'"}',
    "duplicate keys": b'{"name": "a", "name": "b"}',
    "true for a number": b'{"at": "2026-01-01T00:00:00Z", "value": true}',
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "UTF-8 with a mark": b'\xef\xbb\xbf{"name": "x"}',
    "broken UTF-8": b'{"name": "\xff\xfe"}',
    "not JSON": b"<xml/>",
    "empty": b"",
    "null": b"null",
    "a list": b"[1, 2]",
    "bidi override": '{"name": "a\u202eb", "secret": 1}'.encode(),
}

ECHO = "echo-7c1f"
AT = "2026-01-01T00:00:00Z"
READING = {"at": AT, "value": 1.5}
HOOK = {"url": "https://1.1.1.1/", "description": ECHO, "event_types": ["plan.changed"], "ordered": False}
BODIES: dict[str, dict[str, Any]] = {
    "POST /api/v1/indicators": {"name": ECHO, "description": ECHO, "unit": ECHO},
    "PATCH /api/v1/indicators/{indicator_id}": {"name": ECHO, "description": ECHO, "unit": ECHO},
    "POST /api/v1/indicators/{indicator_id}/readings": READING,
    "POST /api/v1/indicators/{indicator_id}/readings/batch": {"readings": [READING]},
    "POST /api/v1/indicators/readings/batch": {"readings": [READING | {"indicator_id": "INDICATOR"}]},
    "PUT /api/v1/indicators/{indicator_id}/readings/{at}": {"value": 2},
    "POST /api/v1/webhooks": HOOK,
    "PATCH /api/v1/webhooks/{endpoint_id}": HOOK,
    "POST /api/v1/webhooks/{endpoint_id}/replays": {"since": AT, "until": "2026-01-02T00:00:00Z", "delivered": False},
}
VALUES = {
    "lone surrogate": f'"{ECHO}\\ud800"',
    "NUL": f'"{ECHO}\\u0000"',
    "NaN": "NaN",
    "1e999": "1e999",
    "2^63": "9223372036854775808",
    "deep nesting": "[" * 100_000 + "]" * 100_000,
    "true": "true",
    "a list": f'["{ECHO}"]',
    "an object": f'{{"{ECHO}": 1}}',
}
"""Put in the place of each value in turn. `true` is neither a number nor a text nor a time."""


def test_every_route_that_reads_json_is_tried(app: FastAPI) -> None:
    reading = {str(route) for route in routes_of(app) if route.api_route.body_field is not None}
    assert len(reading) == 9
    assert reading == set(BODIES), "give the new route a right body here"


def spoilt(value: Any, token: str) -> Iterator[str]:
    """The JSON as often as it has values, each time with the token in the place of another one."""
    if not isinstance(value, dict | list):
        if not (isinstance(value, bool) and token == "true"):  # right where a yes or no belongs
            yield token
        return
    for at, inner in value.items() if isinstance(value, dict) else enumerate(value):
        for text in spoilt(inner, token):
            copy: Any = value.copy()
            copy[at] = "@@"
            yield json.dumps(copy).replace('"@@"', text)


class Asker:
    """An owner who sends whatever bytes to one route."""

    def __init__(self, client: Client, method: str, path: str) -> None:
        self.client, self.method, self.path = client, method, path

    async def send(self, body: bytes, media: str = "application/json") -> httpx.Response:
        headers = {"accept": "application/json", "idempotency-key": uuid4().hex, **self.client.bearer}
        headers |= {"content-type": media} if media else {}
        return await self.client.http.request(self.method, self.path, content=body, headers=headers)


@pytest.fixture(params=BODIES)
async def asked(request: pytest.FixtureRequest, factory: Factory) -> AsyncIterator[tuple[Asker, dict[str, Any]]]:
    """The route and its right body; the latter is accepted, or the refusals below would prove nothing."""
    owner = await factory.person(Role.OWNER)
    assert owner.organization_id is not None
    indicator = await factory.indicator(owner.organization_id)
    method, _, template = request.param.partition(" ")
    async with await factory.client(owner) as client:
        if method == "PUT":
            await client.api("POST", f"/indicators/{indicator}/readings", READING)
        endpoint = ""
        if "{endpoint_id}" in template:
            endpoint = (await client.api("POST", "/webhooks", HOOK)).json()["id"]
        asker = Asker(client, method, template.format(indicator_id=indicator, endpoint_id=endpoint, at=AT))
        body = json.loads(json.dumps(BODIES[request.param]).replace("INDICATOR", str(indicator)))
        accepted = await asker.send(json.dumps(body).encode())
        assert accepted.status_code in (200, 201), accepted.text
        yield asker, body


def insist_on_problem(answer: httpx.Response, what: str) -> None:
    assert answer.status_code in (400, 413, 415, 422), f"{what}: {answer.status_code} {answer.text[:500]}"
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["detail"]
    assert problem["mend"]
    assert len(answer.content) < 2_000
    for echo in (ECHO, "9223372036854775808", "1e999", "[[[[", "xxxx"):
        assert echo not in answer.text, f"{what} is repeated: {answer.text}"


async def test_one_hostile_value_gets_a_clear_problem(asked: tuple[Asker, dict[str, Any]]) -> None:
    asker, body = asked
    for what, token in VALUES.items():
        for one in spoilt(body, token):
            insist_on_problem(await asker.send(one.encode()), f"{what} in {one[:100]}")


async def test_a_hostile_body_gets_a_clear_problem(asked: tuple[Asker, dict[str, Any]]) -> None:
    asker, _ = asked
    for what, body in HOSTILE_JSON.items():
        insist_on_problem(await asker.send(body), what)


async def test_a_right_body_in_the_wrong_wrapping_gets_a_clear_problem(asked: tuple[Asker, dict[str, Any]]) -> None:
    asker, body = asked
    right = json.dumps(body).encode()
    insist_on_problem(await asker.send(right[:-1] + b", " + right[1:]), "duplicate keys")
    insist_on_problem(await asker.send(right.decode().encode("utf-16")), "UTF-16")
    insist_on_problem(await asker.send(right + b" " * 20_000_000), "20 MB")
    for media in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = await asker.send(right, media)
        insist_on_problem(answer, media)
        assert answer.status_code == 415
        assert "application/json" in answer.json()["mend"]


@pytest.mark.parametrize("part", [b"[]", b"{}", b"1"])
def test_a_document_of_a_million_values_is_refused_before_it_is_read(part: bytes) -> None:
    """Reading it takes most of a second, during which nobody else is answered; and anybody may send one."""
    body = b"[" + b",".join([part] * (2_000_000 // (len(part) + 1))) + b"]"
    began = time.process_time()
    with pytest.raises(PayloadTooLarge):
        check_json(body)
    assert time.process_time() - began < 0.1


async def test_a_long_document_is_read_for_a_key_that_is_believed(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading it takes everybody's time; whoever has no key of ours, or one that has ended, gets none of that."""
    read: list[int] = []

    def watched(body: bytes) -> Any:
        read.append(len(body))
        return check_json(body)

    monkeypatch.setattr(strict_json, "check_json", watched)
    organization = await factory.organization()
    ended = await factory.key(organization, revoked_at=clock.now())
    indicator = await factory.indicator(organization)
    path = f"/api/v1/indicators/{indicator}/readings/batch"
    long = json.dumps({"readings": [READING]}).encode() + b" " * 1_000_000
    async with Client(factory.url, key=await factory.key(organization)) as program:

        async def send(key: str) -> int:
            headers = {"authorization": f"Bearer {key}", "content-type": "application/json", "idempotency-key": "x"}
            return (await program.http.post(path, content=long, headers=headers)).status_code

        for key in ("none", api_keys.mint(organization), ended):
            assert (await send(key), read) == (401, [])
        assert (await send(program.key), read) == (201, [len(long)])
        revoke = "UPDATE api_keys SET revoked_at = now() WHERE secret_hash = $1"
        await factory.superuser.execute(revoke, api_keys.hash_of(program.key))
        assert [await send(program.key) for _ in range(3)] == [401] * 3
        assert len(read) == 2, "the door knew it, and forgot it"
