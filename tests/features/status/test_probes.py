"""Probes answer what they promise, also when a dependency is away."""

from __future__ import annotations

import httpx

from tests.support.servers import RunningServer


async def test_alive_needs_nothing(server: RunningServer) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.get("/livez")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})
