"""Every operation of the API, attacked as its own description invites: the day it is described, it is attacked."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from service.guardrails.rate_limits import policy_of
from service.web.contract import example, operations
from tests.abuse.forms import pattern_of
from tests.abuse.judge import Sent
from tests.abuse.parts import FORM
from tests.abuse.payloads import BROKEN, DEEP, FAR_TOO_LONG, FOREIGN, MARK, NUMBERS, TEXTS, WRONG_TYPES
from tests.abuse.world import Crowd, World
from tests.architecture.conftest import Route

OPERATIONS, TAKEN, ATTACKS = 40, 25, 1_100
JSON = "application/json"
HARMLESS: dict[str, dict[str, Any]] = {
    "PATCH /api/v1/webhooks/{endpoint_id}": {"description": MARK},
    "POST /api/v1/webhooks/{endpoint_id}/replays": {"since": "2026-03-31T14:30:00Z", "until": "2026-03-31T15:30:00Z"},
}
"""Bodies that are right whoever sends them, where an example may be refused for what it says."""
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}


def resolved(schema: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = parts[schema["$ref"].rpartition("/")[2]]
    if one := [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]:
        return resolved(one[0], parts) | {"nullable": len(one) < len(schema["anyOf"])}
    return schema


def wrong_values(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a field of this kind can never be."""
    kind = schema.get("type")
    yield from ((what, value) for what, value in WRONG_TYPES.items() if kind != {"yes": "boolean"}.get(what))
    if kind == "string":
        yield from BROKEN.items()
        if "maxLength" in schema:
            yield "one character too many", "x" * (schema["maxLength"] + 1)
        if "enum" in schema or schema.get("format") in ("uuid", "date", "date-time", "email"):
            yield from TEXTS.items()
    if kind in ("number", "integer"):
        yield from NUMBERS.items()


def spoilt(body: Any, schema: dict[str, Any], parts: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The right body as often as something can be wrong with it; also inside of its lists."""
    schema = resolved(schema, parts)
    if schema.get("type") == "array" and body:
        for what, one in spoilt(body[0], schema["items"], parts):
            yield f"[0]{what}", [one]
    if not isinstance(body, dict):
        return
    for name, inner in schema.get("properties", {}).items():
        kind = resolved(inner, parts)
        for what, value in wrong_values(kind):
            yield f".{name} is {what}", body | {name: value}
        for what, value in spoilt(body.get(name), inner, parts):
            yield f".{name}{what}", body | {name: value}
    for name in schema.get("required", ()):
        yield f" without {name}", {key: value for key, value in body.items() if key != name}
    if schema.get("additionalProperties") is False:
        yield " with a field more", body | {"organization_id": str(uuid4())}
        yield " with a prototype", body | {"__proto__": {"role": "owner"}}


def texts_in(body: Any, schema: dict[str, Any], parts: dict[str, Any], text: str) -> Any:
    """The body with `text` wherever any text may stand."""
    schema, changed = resolved(schema, parts), copy.deepcopy(body)
    for name, inner in schema.get("properties", {}).items() if isinstance(body, dict) else ():
        kind = resolved(inner, parts)
        if kind.get("type") == "string" and "enum" not in kind and "format" not in kind:
            changed[name] = text[: kind.get("maxLength", len(text))]
    return changed


class Attack:
    """One operation, by somebody with every right to it."""

    kind = media = JSON
    """Of the body, as its description says it and as it is sent."""
    right: str | bytes | None = None

    def __init__(self, world: World, route: Route, operation: dict[str, Any], parts: dict[str, Any]) -> None:
        self.world, self.route, self.operation, self.parts = world, route, operation, parts
        self.crowd = Crowd(world, policy_of(route.endpoint, route.method))
        content = operation.get("requestBody", {}).get("content", {})
        self.schema = content[self.kind]["schema"] if self.kind in content else None
        self.body = example(self.schema, parts) if self.schema else None
        if self.body is not None:
            self.right = json.dumps(self.body)

    async def send(
        self, what: str, *, refuse: bool = True, only: tuple[int, ...] = (), path: str = "", content: Any = None,
        **headers: str | None,
    ) -> httpx.Response:  # fmt: skip
        client = await self.crowd.next()
        sent = {"accept": JSON, "idempotency-key": uuid4().hex, **client.bearer}
        content = self.right if content is None else content
        if content is not None:
            sent["content-type"] = self.media
        for name, value in headers.items():
            name = name.replace("_", "-")
            sent = {key: one for key, one in sent.items() if key != name} | ({name: value} if value is not None else {})
        answer = await client.http.request(self.route.method, path or self.path, content=content, headers=sent)
        self.world.judge(answer, Sent(str(self.route), what, refuse, only=only))
        return answer

    async def run(self) -> None:
        owner = await self.world.somebody()
        self.path = await self.world.path(self.route, self.world.home, owner)
        foreign = await self.world.path(self.route, self.world.elsewhere, None)
        before, there = await self.world.before(), await self.world.rows(self.world.elsewhere)
        await self.credentials()
        if self.schema is not None:
            await self.bodies()
        for what, text in (TEXTS | BROKEN).items():
            if "{" in self.route.path:
                await self.send(f"path is {what}", path=self.with_path(text))
        if foreign != self.path and "_id}" in self.route.path:
            harmless = HARMLESS.get(str(self.route))
            body = json.dumps(harmless) if harmless else None
            await self.send("another organization's id", path=foreign, content=body, only=(404,))
        await self.world.unchanged(before, str(self.route))
        assert await self.world.rows(self.world.elsewhere) == there, f"{self.route}: reached another organization"
        await self.queries()
        await self.twins()
        if self.schema is not None:
            await self.texts()

    async def credentials(self) -> None:
        client = await self.crowd.next()
        session = "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.http.cookies.jar)
        await self.send("no key", authorization=None, only=(401,))
        await self.send("a cookie in place of the key", authorization=None, cookie=session, only=(401,))
        await self.send("a key nobody made", authorization=f"Bearer {MARK}", only=(401,))
        await self.send("a key in the address", authorization=None, path=f"{self.path}?key={client.key}", only=(401,))
        await self.send("another scheme", authorization=f"Basic {client.key}", only=(401,))
        if self.route.method == "POST":
            await self.send("no idempotency key", idempotency_key=None, only=(400,))
            await self.send("an endless idempotency key", idempotency_key="x" * 300, only=(400,))

    async def bodies(self) -> None:
        right = json.dumps(self.body)
        for what, body in spoilt(self.body, self.schema or {}, self.parts):
            await self.send(f"body{what}", content=json.dumps(body))
        for what, content in {
            "empty": "", "null": "null", "a list": "[]", "too deep": DEEP, "too long": f'{{"x": "{FAR_TOO_LONG}"}}',
            "sent twice over": right + right, "NaN": '{"x": NaN}', "a name twice": right[:-1] + ", " + right[1:],
        }.items():  # fmt: skip
            await self.send(f"body is {what}", content=content)
        for media in ("text/plain", "application/x-www-form-urlencoded", "application/xml"):
            await self.send(f"sent as {media}", content_type=media)

    async def texts(self) -> None:
        for what, text in TEXTS.items():
            spiked = json.dumps(texts_in(self.body, self.schema or {}, self.parts, text))
            await self.send(f"every text is {what}", refuse=False, content=spiked)

    async def queries(self) -> None:
        for one in self.operation.get("parameters", ()):
            if one["in"] == "query":
                values = TEXTS | BROKEN | NUMBERS | {"endless": "x" * 8_000}
                for what, value in values.items():
                    await self.send(f"?{one['name']} is {what}", refuse=False, path=self.with_query(one["name"], value))
                twice = f"{self.path}?{one['name']}=1&{one['name']}=2"
                await self.send(f"?{one['name']} twice", refuse=False, path=twice)
        if self.route.method == "GET":
            await self.send("as it is", refuse=False, path=f"{self.path}{'&' if '?' in self.path else '?'}x={MARK}")

    async def twins(self) -> None:
        """The same intent twice at once: one effect, and the same answer or word of the twin."""
        if self.route.method != "POST":
            return
        key = uuid4().hex
        client = await self.crowd.next()
        headers = {"accept": JSON, "idempotency-key": key, **client.bearer}
        headers |= {"content-type": self.media} if self.right else {}
        both = await asyncio.gather(*(client.http.post(self.path, content=self.right, headers=headers) for _ in "12"))
        for answer in both:
            self.world.judge(answer, Sent(str(self.route), "twice at once", refuse=False))
        good = [answer.content for answer in both if answer.status_code < 300]
        if len(good) == 2 and good[0] != good[1]:
            self.world.found.append(f"{self.route}: the same intent twice had two effects")

    def with_path(self, text: str) -> str:
        """The last thing that the path names, replaced."""
        names = [part for part in self.route.path.split("/") if part.startswith("{")]
        at = self.route.path.split("/").index(names[-1])
        parts = self.path.partition("?")[0].split("/")
        parts[at] = encoded(text)
        return "/".join(parts)

    def with_query(self, name: str, text: str) -> str:
        path, _, query = self.path.partition("?")
        rest = "&".join(one for one in query.split("&") if one and not one.startswith(f"{name}="))
        return f"{path}?{rest}&{name}={encoded(text)}"


def encoded(text: str) -> str:
    """Every byte with its number; a lone surrogate as the three bytes that no decoder should take."""
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))


@pytest.mark.slow
async def test_every_operation_withstands_what_its_description_invites(
    app: FastAPI, routes: list[Route], world: World
) -> None:
    document = app.openapi()
    known = {str(route): route for route in routes}
    parts = document["components"]["schemas"]
    attacked = 0
    for method, path, operation in operations(document):
        kinds = set(operation.get("requestBody", {}).get("content", {}))
        if kinds == {FORM}:
            continue  # attacked in test_uploads.py
        assert kinds <= {JSON}, f"{method} {path}: nobody knows how to attack {kinds}"
        await Attack(world, known[f"{method} {path}"], operation, parts).run()
        attacked += 1
    assert not world.found, world.report()
    assert attacked >= OPERATIONS, f"only {attacked} operations were attacked"
    assert len(world.taken) >= TAKEN, f"what is right was taken by these alone: {sorted(world.taken)}"
    assert world.sent >= ATTACKS, f"only {world.sent} attacks"


async def test_no_path_takes_another_method(routes: list[Route], world: World) -> None:
    declared: dict[str, set[str]] = {}
    for route in routes:
        declared.setdefault(route.path, set()).add(route.method)
    assert len(declared) >= 150
    crowd = Crowd(world, policy_of(routes[0].endpoint, "GET"))
    known = [(route.method, pattern_of(route)) for route in routes]
    for path, methods in declared.items():
        others = sorted(METHODS - methods) if path.startswith("/api/") else ["PUT"]
        for method in [*others, "TRACE", "PROPFIND"]:
            client = await crowd.next()
            headers = {"accept": JSON, "x-http-method-override": sorted(methods)[0], "origin": FOREIGN}
            filled = path.replace("{at}", "2026-01-01T00:00:00Z").replace("{", "").replace("}", "")
            answer = await client.http.request(method, filled, headers=headers | client.bearer)
            # /indicators/bin takes no DELETE; as an indicator's id, "bin" is none.
            named = any(verb == method and pattern.match(filled) for verb, pattern in known)
            only = 404 if path.startswith("/staff") else 422 if named else 405
            world.judge(answer, Sent(f"{method} {path}", "another method", only=(only,)))
            assert "access-control-allow-origin" not in answer.headers
    assert not world.found, world.report()
