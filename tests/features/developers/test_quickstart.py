"""What the page for developers tells them to type works as it stands there, with a real key."""

from __future__ import annotations

import asyncio
import html
import os
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

from service.guardrails.permissions import Role
from tests.support.client import Client
from tests.support.factories import Factory


@pytest.fixture
async def key(factory: Factory) -> str:
    organization = await factory.organization()
    await factory.plan(organization)
    scopes = ["indicators:read", "indicators:write", "files:read", "files:write"]
    return await factory.key(organization, Role.ADMIN, scopes)


async def snippet(factory: Factory, name: str) -> str:
    async with Client(factory.url) as anybody:
        page = await anybody.page("/developers")
    found = re.search(rf'<code id="{name}">(.*?)</code>', page, re.DOTALL)
    assert found, f"no code {name} on the page"
    return html.unescape(found[1])


async def run(key: str, *command: str, place: Path | None = None) -> str:
    environment = {"PATH": os.environ["PATH"], "BALLAST_KEY": key, "NO_PROXY": "127.0.0.1"}
    process = await asyncio.create_subprocess_exec(*command, cwd=place, env=environment, stdout=PIPE, stderr=STDOUT)
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def test_the_lines_for_curl_run(factory: Factory, key: str) -> None:
    said = await run(key, "bash", "-euo", "pipefail", "-c", await snippet(factory, "curl"))
    assert '"added":2' in said
    assert '"mean":14.5' in said
    again = await run(key, "bash", "-euo", "pipefail", "-c", await snippet(factory, "curl"))
    assert again == said, "a repeated request is answered as the first was"


@pytest.mark.usefixtures("worker")
async def test_the_lines_for_a_file_run(factory: Factory, key: str, tmp_path: Path) -> None:
    said = await run(key, "bash", "-euo", "pipefail", "-c", await snippet(factory, "files"), place=tmp_path)
    assert '"state":"clean"' in said
    assert said.endswith("what was measured\n")


async def test_the_lines_for_python_run(factory: Factory, key: str) -> None:
    said = (await run(key, sys.executable, "-c", await snippet(factory, "python"))).splitlines()
    assert said[:2] == ["60 added, 0 refused", "60 readings"]
    assert re.fullmatch(rf"412 Changed in the meantime - .+ {factory.url}/problems/precondition-failed", said[2])


async def test_the_guide_sends_nobody_where_only_admins_may_go(factory: Factory) -> None:
    """It is for everybody, so it does not know who reads it."""
    async with (
        await factory.client() as anybody,
        await factory.client(await factory.person(Role.MEMBER)) as member,
        await factory.client(await factory.person(Role.ADMIN)) as admin,
    ):
        page = await anybody.page("/developers")
        assert "Then ask one of them" in page
        linked = set(re.findall(r'href="(/[^"#?]*)"', page))
        assert len(linked) >= 3, linked
        for address in sorted(linked):
            assert (await member.get(address)).status_code in (200, 303), f"{address}: a dead end for members"
        menu = await admin.page("/members")
        assert 'href="/api-keys"' in menu, "where the guide sends admins to"
