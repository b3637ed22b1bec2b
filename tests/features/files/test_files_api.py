"""What a program does with files: the same bounds, verdicts and links as on the pages, and no file twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import pytest

from service.core import telemetry
from service.core.multipart import Incoming
from service.guardrails import api_keys
from service.guardrails.permissions import Role
from service.guardrails.uploads import bounds
from tests.support.client import Client
from tests.support.factories import Factory

Look = Callable[[], Awaitable[None]]
NOTES = b"what a program wrote down"


async def send(client: Client, name: str, content: bytes, key: str = "") -> httpx.Response:
    headers = {"accept": "application/json", "idempotency-key": key or uuid4().hex, **client.bearer}
    return await client.http.post("/api/v1/files", files={"file": (name, content)}, headers=headers)


async def rows(factory: Factory, client: Client) -> list[Any]:
    organization = (await client.api("GET", "/organizations/current")).json()["id"]
    asked = "SELECT state, size FROM files WHERE organization_id = $1"
    found: list[Any] = await factory.superuser.fetch(asked, organization)
    return found


async def test_a_file_goes_the_whole_way(member: Client, look: Look) -> None:
    sent = await send(member, "../notes.txt", NOTES)
    assert sent.status_code == 201, sent.text
    file = sent.json()
    assert (file["name"], file["kind"], file["size"], file["state"]) == ("notes.txt", "txt", len(NOTES), "pending")
    path = f"/files/{file['id']}"
    early = await member.api("GET", f"{path}/link")
    assert (early.status_code, early.json()["code"]) == (409, "conflict")
    await look()
    assert (await member.api("GET", path)).json()["sentence"] == "Text."
    link = (await member.api("GET", f"{path}/link")).json()
    async with httpx.AsyncClient() as anybody:
        download = await anybody.get(f"{member.origin}{urlsplit(link['url']).path}")
    assert (download.content, "attachment" in download.headers["content-disposition"]) == (NOTES, True)
    assert (await member.api("DELETE", path)).status_code == 204
    assert (await member.api("GET", path)).status_code == 404
    assert "notes.txt" in await member.page("/files/bin")


async def test_the_list_comes_in_pages(member: Client) -> None:
    for number in range(3):
        assert (await send(member, f"{number}.txt", NOTES)).status_code == 201
    first = (await member.api("GET", "/files?limit=2")).json()
    rest = (await member.api("GET", f"/files?limit=2&cursor={first['next_cursor']}")).json()
    assert [one["name"] for one in first["items"] + rest["items"]] == ["2.txt", "1.txt", "0.txt"]
    assert (first["has_more"], rest["has_more"]) == (True, False)


async def test_the_same_upload_again_is_compared_and_not_stored(member: Client, factory: Factory) -> None:
    first = await send(member, "notes.txt", NOTES, "once")
    again = await send(member, "notes.txt", NOTES, "once")
    assert (again.status_code, again.json(), again.headers["idempotent-replayed"]) == (201, first.json(), "true")
    for name, content in (("notes.txt", NOTES + b"!"), ("other.txt", NOTES)):
        other = await send(member, name, content, "once")
        assert (other.status_code, other.json()["code"]) == (422, "invalid")
    assert [row["size"] for row in await rows(factory, member)] == [len(NOTES)]


async def test_twins_make_one_file(member: Client, factory: Factory) -> None:
    """Neither is known before its end; whoever comes second gives its room back."""
    answers = await asyncio.gather(*(send(member, "notes.txt", NOTES, "twins") for _ in range(3)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    files = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert len(files) == 1
    left = {(row["state"], row["size"]) for row in await rows(factory, member)} - {("pending", len(NOTES))}
    assert left <= {("abandoned", 0), ("clean", len(NOTES))}


async def test_what_is_no_upload_is_refused_in_words(member: Client, factory: Factory) -> None:
    for name, content, status, sentence in (
        ("page.html", b"<script>", 415, "Files of this kind are not taken."),
        ("photo.png", b"<svg onload=x()>", 415, "The content is not that of a png file."),
        ("nothing.txt", b"", 400, "The file is empty."),
    ):
        answer = await send(member, name, content)
        assert (answer.status_code, answer.json()["detail"]) == (status, sentence)
        assert answer.headers["content-type"] == "application/problem+json"
    for form in (
        {"files": {"picture": ("a.txt", NOTES)}},
        {"files": {"file": ("a.txt", NOTES)}, "data": {"size": "1"}},
    ):
        other = await member.http.post("/api/v1/files", **form, headers=member.bearer | {"idempotency-key": "form"})
        assert (other.status_code, other.json()["mend"]) == (422, "Send the file as 'file', and nothing else.")
    for headers in ({}, {"idempotency-key": "x", "content-type": "application/json"}):
        bare = await member.http.post("/api/v1/files", content=b"{}", headers=member.bearer | headers)
        assert bare.status_code in (400, 415)
    forgotten = await member.http.post("/api/v1/files", files={"file": ("a.txt", NOTES)}, headers=member.bearer)
    assert (forgotten.status_code, "Idempotency-Key" in forgotten.text) == (400, True)
    assert all(row["size"] == 0 for row in await rows(factory, member))


async def test_role_scope_and_organization_hold_here_too(member: Client, factory: Factory) -> None:
    file = (await send(member, "notes.txt", NOTES)).json()["id"]
    organization = (await member.api("GET", "/organizations/current")).json()["id"]
    async with await factory.client(await factory.person(Role.OWNER)) as stranger:
        for method, path in (("GET", f"/files/{file}"), ("GET", f"/files/{file}/link"), ("DELETE", f"/files/{file}")):
            assert (await stranger.api(method, path)).status_code == 404
    for role, scopes in ((Role.VIEWER, ["files:read", "files:write"]), (Role.ADMIN, ["files:read"])):
        async with Client(member.origin, key=await factory.key(UUID(organization), role, scopes)) as other:
            assert (await other.api("GET", f"/files/{file}")).status_code == 200
            assert (await send(other, "notes.txt", NOTES)).status_code == 403


async def test_a_stranger_sends_no_file_and_takes_no_place(
    member: Client, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made-up keys used to fill the few places before anybody had asked whose they are."""
    taken: list[UUID] = []
    take_place = bounds.Stream.take_place

    def watched(stream: bounds.Stream, who: UUID) -> None:
        taken.append(who)
        take_place(stream, who)

    monkeypatch.setattr(bounds.Stream, "take_place", watched)
    organization = UUID((await member.api("GET", "/organizations/current")).json()["id"])
    other = "1" if member.key.endswith("0") else "0"
    for invented in (member.key[:-1] + other, api_keys.mint(organization)):
        async with Client(member.origin, key=invented) as stranger:
            assert (await send(stranger, "notes.txt", NOTES)).status_code == 401
    async with Client(member.origin) as browser:
        refused = await browser.http.post("/files", data={"csrf": "x"}, files={"file": ("a.txt", NOTES)})
        assert refused.status_code in (303, 401, 403)
    assert taken == []
    assert (await send(member, "notes.txt", NOTES)).status_code == 201
    page = await member.http.post("/files", data={"csrf": member.csrf}, files={"file": ("a.txt", NOTES)})
    assert (page.status_code, len(taken), len(set(taken))) == (303, 2, 2), "one for the key, one for the person"


async def test_nothing_is_open_while_a_form_arrives(member: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten senders in no hurry, each with one of ten connections, kept everybody else out."""
    begun = 0
    begin = Incoming.begin

    async def watched(incoming: Incoming) -> None:
        nonlocal begun
        begun += 1
        # Loops of the process come and go; what this request held, it would hold until its form has arrived.
        async with asyncio.timeout(60):
            while telemetry.REGISTRY.get_sample_value("db_pool_in_use", {"pool": "app"}):
                await asyncio.sleep(0.01)
        await begin(incoming)

    monkeypatch.setattr(Incoming, "begin", watched)
    assert (await send(member, "notes.txt", NOTES)).status_code == 201
    files, token = {"file": ("notes.txt", NOTES)}, {"x-csrf-token": member.csrf, "origin": member.origin}
    assert (await member.http.post("/files", files=files, headers=token)).status_code == 303
    assert (await member.http.post("/files", data={"csrf": member.csrf}, files=files)).status_code == 303
    assert begun == 3
