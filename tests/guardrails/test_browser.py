"""The shield: headers on every answer, hostile bodies and other sites refused, and what if it were gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from service.core.errors import BadRequest
from service.core.schemas import Input
from service.core.settings import Settings
from service.guardrails.browser import check_json, security_headers
from service.guardrails.permissions import Role
from tests.support.client import Client
from tests.support.factories import Factory

REQUIRED = (
    "content-security-policy", "x-content-type-options", "referrer-policy", "cross-origin-opener-policy",
    "cross-origin-resource-policy", "permissions-policy", "x-frame-options", "cache-control", "x-request-id",
)  # fmt: skip


@pytest.fixture
async def member(factory: Factory) -> AsyncIterator[Client]:
    async with await factory.client(await factory.person(Role.MEMBER)) as client:
        yield client


async def test_every_answer_carries_the_headers(member: Client) -> None:
    answers = [
        await member.get("/dashboard"),
        await member.get("/no-such-page"),
        await member.http.put("/login"),
        await member.get("/dashboard", headers={"host": "evil.test"}),
        await member.api("POST", "/indicators", {"name": 7}),
        await member.http.post("/api/v1/indicators", content=b"x" * 2_000_000),
        await member.get("/livez"),
        await member.get("/"),
    ]
    assert sorted({answer.status_code for answer in answers}) == [200, 303, 400, 404, 405, 413, 422]
    for answer in answers:
        missing = [name for name in REQUIRED if name not in answer.headers]
        assert not missing, f"{answer.request.method} {answer.request.url} {answer.status_code} lacks {missing}"
        assert "server" not in answer.headers


async def test_policy_allows_nothing_inline(member: Client) -> None:
    policy = (await member.get("/dashboard")).headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


async def test_https_gets_strict_transport_security(settings: Settings) -> None:
    secure = settings.model_copy(update={"base_url": "https://app.acme.test"})
    assert b"strict-transport-security" in dict(security_headers(secure))
    assert b"strict-transport-security" not in dict(security_headers(settings))


async def raw(member: Client, *lines: str, body: bytes = b"") -> str:
    """One request written by hand: what a client library would refuse to send."""
    parts = urlsplit(str(member.http.base_url))
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    head = await asyncio.wait_for(reader.read(4096), 10)
    writer.close()
    return head.decode("latin-1")


async def test_two_hosts_or_none_are_refused(member: Client) -> None:
    host = urlsplit(str(member.http.base_url)).netloc
    assert " 400 " in await raw(member, "GET /login HTTP/1.1", f"host: {host}", "host: evil.test")
    assert " 400 " in await raw(member, "GET /login HTTP/1.1", "connection: close")
    assert " 200 " in await raw(member, "GET /login HTTP/1.1", f"host: {host}")


async def test_probes_are_answered_whatever_name_they_call(member: Client) -> None:
    """Kubernetes and Prometheus call a pod by its address."""
    assert " 200 " in await raw(member, "GET /livez HTTP/1.1", "host: 10.1.2.3:8000")


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


@pytest.mark.parametrize("what", HOSTILE_JSON)
async def test_hostile_json_gets_a_clear_problem(what: str, member: Client, factory: Factory) -> None:
    headers = {"content-type": "application/json", "x-csrf-token": member.csrf, "idempotency-key": uuid4().hex}
    headers["accept"] = "application/json"
    for path in ("/api/v1/indicators", "/api/v1/organizations", "/api/v1/organizations/current/invitations"):
        answer = await member.http.post(path, content=HOSTILE_JSON[what], headers=headers)
        assert 400 <= answer.status_code < 500, f"{what} on {path}: {answer.status_code}"
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["detail"]
        assert problem["mend"]
        assert "xxxx" not in answer.text
        assert len(answer.content) < 2_000


async def test_a_wrong_content_type_is_named(member: Client) -> None:
    headers = {"content-type": "text/plain", "x-csrf-token": member.csrf, "idempotency-key": "k"}
    answer = await member.http.post("/api/v1/indicators", content=b'{"name": "x"}', headers=headers)
    assert answer.status_code == 415
    assert "application/json" in answer.json()["mend"]


def test_harmless_json_passes() -> None:
    check_json(json.dumps({"name": "ü 🙂", "list": [1, -2.5, 2**62, None, True]}).encode())


@pytest.mark.parametrize("what", ["lone surrogate", "NaN", "1e999", "2^63", "deep nesting", "duplicate keys", "UTF-16"])
def test_each_danger_is_named_without_quoting_it(what: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check_json(HOSTILE_JSON[what])
    assert len(refused.value.detail) < 100


async def test_a_body_that_never_arrives_is_given_up(settings: Settings) -> None:
    """A slow sender holds neither a connection of the pool nor the process."""
    from starlette.types import Message, Receive, Scope, Send

    from service.guardrails.browser import Shield

    reached = False

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal reached
        reached = True

    def refuse(scope: Scope, error: Exception) -> object:
        from starlette.responses import PlainTextResponse

        return PlainTextResponse(str(error), status_code=error.status)  # type: ignore[attr-defined]

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    quick = settings.model_copy(update={"body_timeout_seconds": 0.05})
    shield = Shield(application, quick, refuse)  # type: ignore[arg-type]
    scope = {
        "type": "http", "method": "POST", "path": "/", "headers": [(b"host", b"127.0.0.1")], "state": {},
    }  # fmt: skip
    await shield(scope, never, send)
    assert sent[0]["status"] == 408
    assert not reached


FOREIGN = [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "https://evil.test"}]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_another_site_cannot_act_even_with_the_token(headers: dict[str, str], member: Client) -> None:
    sent = {"x-csrf-token": member.csrf, **headers}
    answer = await member.http.post("/indicators/new", data={"name": "Forged"}, headers=sent)
    assert answer.status_code == 403
    assert "Forged" not in await member.page("/indicators")


@pytest.mark.parametrize("token", ["", "wrong", "\u00fc".encode("latin-1").decode("latin-1")])
async def test_a_missing_or_wrong_token_is_refused_in_words(token: str, member: Client) -> None:
    fields = {"csrf": token, "name": "Forged"} if token else {"name": "Forged"}
    answer = await member.http.post("/indicators/new", data=fields)
    assert answer.status_code == 403
    assert "Reload the page" in answer.text


async def test_one_persons_token_is_no_good_to_another(member: Client, factory: Factory) -> None:
    async with await factory.client(await factory.person(Role.MEMBER)) as other:
        answer = await member.http.post("/indicators/new", data={"csrf": other.csrf, "name": "x"})
    assert answer.status_code == 403


async def test_login_itself_needs_a_token(factory: Factory) -> None:
    async with await factory.client() as anonymous:
        answer = await anonymous.http.post("/login", data={"email": "a@example.com", "password": "x"})
    assert answer.status_code == 403


class Body(Input):
    value: float


async def test_it_bites_when_removed(settings: Settings) -> None:
    """The same application without the shield: no headers, any host, and hostile JSON is a 500 or an acceptance."""
    bare = FastAPI()

    @bare.post("/echo")
    async def echo(body: Body) -> Body:
        return body

    transport = httpx.ASGITransport(bare, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://evil.test") as http:
        json_type = {"content-type": "application/json"}
        duplicate = await http.post("/echo", content=b'{"value": 1, "value": 2}', headers=json_type)
        deep = await http.post("/echo", content=HOSTILE_JSON["deep nesting"], headers=json_type)
    assert duplicate.status_code == 200
    assert deep.status_code >= 400
    assert "content-security-policy" not in duplicate.headers
