"""Every address, plain ones as well, asked in ways that no browser and no client would."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI

from service.guardrails.rate_limits import READ
from tests.abuse.forms import pattern_of
from tests.abuse.judge import Sent
from tests.abuse.payloads import FOREIGN, MARK
from tests.abuse.world import Crowd, World
from tests.architecture.conftest import Route, plain_routes_of
from tests.support.headers import PROMISED

ADDRESSES, REQUESTS = 115, 950
TRICKS = {
    "a slash more": "{}/", "two slashes": "/{}", "another case": "UPPER", "a dot segment": "/%2e%2e{}",
    "a dot segment below files": "/static/%2e%2e{}",
    "a backslash": "/\\{}", "a parameter": "{};jsessionid=1", "an ending": "{}.json",
}  # fmt: skip
POISON = {
    "x-forwarded-host": "attacker.example", "x-forwarded-proto": "gopher", "x-original-url": "/staff",
    "x-rewrite-url": "/staff", "forwarded": "for=1.2.3.4;host=attacker.example", "x-http-method-override": "DELETE",
    "origin": FOREIGN, "referer": f"{FOREIGN}/{MARK}", "accept-language": f"{MARK}," * 50, "range": "bytes=0-1,0-1",
    "if-none-match": f'"{MARK}', "accept": f"text/html;q={MARK}, */*;q=NaN", "user-agent": f"<script>{MARK}</script>",
    "cookie": f"session={MARK}; session={MARK}; csrf=<script>{MARK}", "hx-current-url": f"{FOREIGN}/",
}  # fmt: skip


@pytest.mark.slow
async def test_no_address_is_reached_by_a_trick(app: FastAPI, routes: list[Route], world: World) -> None:
    readable = [route.path for route in routes if route.method == "GET"]
    readable += [str(one.path) for one in plain_routes_of(app)]
    paths = sorted(set(readable) - {"/"})
    known = [pattern_of(route) for route in routes if route.method == "GET"]
    assert len(paths) >= ADDRESSES
    crowd = Crowd(world, READ)
    for path in paths:
        plain = path.replace("{", "").replace("}", "")
        for what, trick in TRICKS.items():
            if path.endswith("}") and trick.startswith("{}"):
                continue  # whatever stands there is only another name of nothing
            client = await crowd.next()
            asked = plain.upper() if trick == "UPPER" else trick.format(plain)
            answer = await client.http.get(client.http.base_url.copy_with(raw_path=asked.encode()))
            world.judge(answer, Sent(path, what, refuse=False))
            if answer.status_code < 300 and not any(pattern.match(asked) for pattern in known):
                world.found.append(f"{path}: {what} ({asked}) reaches something")
        client = await crowd.next()
        answer = await client.http.get(plain, headers=POISON)
        world.judge(answer, Sent(path, "poisoned headers", refuse=False))
        if "attacker.example" in answer.text or "gopher" in answer.headers.get("location", ""):
            world.found.append(f"{path}: believes a header that anybody may send")
    assert not world.found, world.report()
    assert world.sent >= REQUESTS


async def test_what_is_no_proper_request_is_refused_with_every_header(world: World) -> None:
    """Two hosts, none, another one: over a bare socket, since no client would send it."""
    parts = urlsplit(world.factory.url)
    host = parts.netloc
    heads = {
        "two hosts": f"Host: {host}\r\nHost: attacker.example\r\n",
        "another host": "Host: attacker.example\r\n",
        "a host within": f"Host: {host}.attacker.example\r\n",
        "a host and a name": f"Host: {host}@attacker.example\r\n",
    }
    for what, head in heads.items():
        for path in ("/", "/login", "/api/v1/indicators", "/static/app.css", "/staff"):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(f"GET {path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
            answer = (await reader.read()).decode("utf-8", "replace")
            writer.close()
            status, _, rest = answer.partition("\r\n")
            assert " 400 " in f"{status} ", f"{what} at {path}: {status}"
            lacking = [name for name in PROMISED if f"\r\n{name}:" not in rest.lower()]
            assert not lacking, f"{what} at {path}: lacks {lacking}"
            assert "attacker.example" not in answer
    for path in ("/static/../login", "/static/../../etc/passwd", "/../login"):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        status = (await reader.readline()).decode()
        writer.close()
        assert " 404 " in status or " 400 " in status, f"{path}: {status}"
