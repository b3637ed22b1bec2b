"""The shield: headers on every answer, hostile bodies and other sites refused, and what if it were gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from service.app import build
from service.core.errors import BadRequest
from service.core.migrate import head
from service.core.schemas import Input
from service.core.settings import Settings
from service.guardrails import browser
from service.guardrails.browser import Shield, security_headers
from service.guardrails.permissions import Role
from service.guardrails.strict_json import MOST_JSON, check_json
from service.web.errors import refusal
from tests.guardrails.test_hostile_json import HOSTILE_JSON
from tests.support.client import Client
from tests.support.factories import Factory
from tests.support.headers import PROMISED, broken_promises

REQUIRED = (*PROMISED, "x-request-id")


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
        missing = broken_promises(answer)
        assert not missing, f"{answer.request.method} {answer.request.url} {answer.status_code} lacks {missing}"
        assert answer.headers["x-request-id"]
        assert "server" not in answer.headers


async def test_policy_allows_nothing_inline(member: Client) -> None:
    policy = (await member.get("/dashboard")).headers["content-security-policy"]
    assert "unsafe" not in policy
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert {directives[name] for name in ("default-src", "frame-ancestors", "base-uri")} == {"'none'"}
    assert directives["script-src"] == directives["style-src"] == directives["connect-src"] == "'self'"


async def test_https_gets_strict_transport_security(settings: Settings) -> None:
    secure = settings.model_copy(update={"base_url": "https://app.acme.test"})
    told = dict(security_headers(secure))[b"strict-transport-security"].decode()
    seconds, *others = told.split("; ")
    assert int(seconds.removeprefix("max-age=")) >= 365 * 24 * 3600
    assert others == ["includeSubDomains"]
    assert b"strict-transport-security" not in dict(security_headers(settings))


async def raw(member: Client, *lines: str, body: bytes = b"") -> str:
    """One request written by hand: what a client library would refuse to send."""
    parts = urlsplit(str(member.http.base_url))
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    head = await asyncio.wait_for(reader.read(4096), 60)
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


def test_harmless_json_passes() -> None:
    check_json(json.dumps({"name": "ü 🙂", "list": [1, -2.5, 2**62, None, True]}).encode())


@pytest.mark.parametrize("what", ["lone surrogate", "NaN", "1e999", "2^63", "deep nesting", "duplicate keys", "UTF-16"])
def test_each_danger_is_named_without_quoting_it(what: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check_json(HOSTILE_JSON[what])
    assert len(refused.value.detail) < 100


class Bare:
    """An application that says when it was reached and answers when it may, behind a shield of its own."""

    def __init__(self, settings: Settings, **changes: Any) -> None:
        self.reached = 0
        self.may_answer = asyncio.Event()
        app = build(settings)
        changed = settings.model_copy(update=changes)
        self.shield = Shield(self._answer, changed, lambda scope, error: refusal(app, scope, error))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.reached += 1
        await self.may_answer.wait()
        await PlainTextResponse("reached")(scope, receive, send)

    async def ask(self, receive: Receive, *, method: str = "POST", path: str = "/x") -> tuple[int, Headers]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        headers = [(b"host", b"127.0.0.1")]
        scope = {"type": "http", "method": method, "path": path, "headers": headers, "state": {}, "query_string": b""}
        await self.shield(scope, receive, send)
        return sent[0]["status"], Headers(raw=sent[0]["headers"])


async def nothing() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


def endless() -> Receive:
    """A body without an end and without a declared length: 64 KiB at a time, twenty times the limit if need be."""
    parts = iter(range(320))

    async def receive() -> Message:
        return {"type": "http.request", "body": b" " * 65_536, "more_body": next(parts) < 319}

    return receive


async def test_a_body_that_never_arrives_is_given_up(settings: Settings) -> None:
    """A slow sender holds neither a connection of the pool nor the process."""
    bare = Bare(settings, body_timeout_seconds=0.05)
    status, headers = await bare.ask(nothing)
    assert (status, bare.reached) == (408, 0)
    assert set(REQUIRED) - set(headers) == {"x-request-id"}, "that one is the layer above's"
    bare.shield.body_timeout = None  # type: ignore[assignment]  # bites: wait for it as long as it takes
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bare.ask(nothing), 1)


async def test_a_body_without_an_end_is_not_collected(settings: Settings) -> None:
    """The declared length is the sender's word; what counts is what came."""
    bare = Bare(settings)
    bare.may_answer.set()
    status, headers = await bare.ask(endless())
    assert (status, bare.reached) == (413, 0)
    assert set(REQUIRED) - set(headers) == {"x-request-id"}
    bare.shield.max_body = 10**9  # bites: all of it is held in memory and handed on
    assert (await bare.ask(endless()))[0] == 200
    assert bare.reached == 1


async def test_more_requests_than_it_can_work_on_are_told_to_come_back(settings: Settings) -> None:
    """Refused by us, with the headers and in words; a probe is answered, or the busy process would be killed."""
    bare = Bare(settings)
    bare.shield.most_at_once = 2
    working = [asyncio.create_task(bare.ask(nothing, method="GET")) for _ in range(2)]
    async with asyncio.timeout(60):
        while bare.reached < 2:
            await asyncio.sleep(0)
    status, headers = await bare.ask(nothing, method="GET")
    assert (status, headers["retry-after"], bare.reached) == (503, "2", 2)
    assert set(REQUIRED) - set(headers) == {"x-request-id"}
    bare.may_answer.set()
    assert (await bare.ask(nothing, method="GET", path="/livez"))[0] == 200
    assert [(await one)[0] for one in working] == [200, 200]
    assert (await bare.ask(nothing, method="GET"))[0] == 200, "whoever has been answered makes room"


async def test_what_a_stranger_sends_to_a_probe_is_not_read(settings: Settings) -> None:
    """Probes are not counted, so a body that is kept for one is memory that anybody may take."""
    bare = Bare(settings)
    bare.may_answer.set()
    assert (await asyncio.wait_for(bare.ask(nothing, path="/livez"), 60))[0] == 200


async def test_json_is_shorter_than_other_bodies(member: Client) -> None:
    """It is checked before any limit is counted: a megabyte of `[1,1,...` took half a second."""
    for length, refused in ((MOST_JSON - 1, False), (MOST_JSON + 1, True)):
        body = (b"[" + b"11," * (length // 3 - 2) + b"1]").ljust(length)
        answer = await member.http.post(
            "/api/v1/indicators",
            content=body,
            headers={"content-type": "application/json", "idempotency-key": "k", **member.bearer},
        )
        assert (answer.status_code == 413) is refused, answer.text


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


async def test_it_bites_without_the_question_another_site_acts(member: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody_asks(*_: object) -> None: ...

    monkeypatch.setattr(browser, "refuse_forgery", nobody_asks)
    sent = {"sec-fetch-site": "cross-site", "origin": "https://evil.test"}
    fields = {"name": "Forged", "schema_version": head()}
    assert (await member.http.post("/indicators/new", data=fields, headers=sent)).status_code == 303
    assert "Forged" in await member.page("/indicators")


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
