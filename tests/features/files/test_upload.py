"""From the form to the download: what is clean can be had, what is not never, and each answer says why."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from starlette.types import Message

from infra.sandbox.clamd import Clamd, ClamdKnobs
from service.core import clock
from service.core.context import Resources
from service.core.database import Database
from service.core.regions import in_region
from service.features.files.flows import links, removal
from service.features.files.flows.look import DUE
from service.features.files.models import new_path
from service.guardrails.permissions import Role
from service.guardrails.purge import purge_expired
from service.integrations import scanner
from service.integrations.storage import NotStored, Storage
from tests.features.files.conftest import only_file, send, state_of
from tests.guardrails.hostile_files import CANARY, EICAR, office, picture
from tests.support.client import Client
from tests.support.factories import Factory

Look = Callable[[], Awaitable[None]]
AN_IMPORT = """
    INSERT INTO imports (id, organization_id, object_key, created_at, name, mode, zone, decimal, state, leased_until)
    VALUES ($1, $2, $3, now(), 'march.csv', 'all', 'UTC', 'point', 'waiting', now() + interval '9 days')
"""


async def test_a_picture_comes_out_clean_through_a_short_link(
    member: Client, factory: Factory, look: Look, resources: Resources, maintenance: Database
) -> None:
    photo = picture("JPEG", exif=b"Exif\0\0" + CANARY)
    answer = await send(member, "../Zoë's photo.jpg", photo)
    assert (answer.status_code, answer.headers["location"]) == (303, "/files")
    sent = await only_file(factory)
    assert (sent["name"], sent["state"], sent["size"]) == ("Zoë's photo.jpg", "pending", len(photo))
    assert re.fullmatch(r"(\w+:)?t/[0-9a-f-]{36}/[0-9a-f]{32}", sent["key"]), "no word of the sender's is in a place"
    early = await member.get(f"/files/{sent['id']}/download")
    assert early.status_code == 409, "nothing is served that nobody has looked at"
    await look()
    assert "JPEG picture." in await member.page("/files")
    link = await member.get(f"/files/{sent['id']}/download")
    assert link.status_code == 303
    download = await member.get(urlsplit(link.headers["location"]).path)
    assert download.status_code == 200
    assert download.content.startswith(b"\xff\xd8\xff")
    assert CANARY not in download.content
    headers = download.headers
    assert headers["content-disposition"] == (
        "attachment; filename=\"Zo__s photo.jpg\"; filename*=UTF-8''Zo%C3%AB%27s%20photo.jpg"
    )
    assert (headers["content-security-policy"], headers["content-type"]) == (
        "sandbox; default-src 'none'", "application/octet-stream",
    )  # fmt: skip
    assert (headers["x-content-type-options"], headers["cross-origin-resource-policy"]) == ("nosniff", "same-origin")
    now = await only_file(factory)
    assert now["key"] != sent["key"], "what was sent is not what is kept"
    await removal.remove_given_up(resources, maintenance)
    with pytest.raises(NotStored):
        await resources.get(Storage).size(sent["key"])
    clock.advance(timedelta(seconds=links.LINK_SECONDS + 1))
    late = await member.get(urlsplit(link.headers["location"]).path)
    assert late.status_code == 404


async def test_what_the_inspection_refuses_is_gone_and_says_why(member: Client, factory: Factory, look: Look) -> None:
    await send(member, "figures.xlsx", office({"xl/vbaProject.bin": b"x"}))
    await look()
    refused = await only_file(factory)
    assert (refused["state"], refused["size"], refused["key"]) == ("rejected", 0, "")
    assert "The document contains macros. Nothing of it was kept." in await member.page(f"/files/{refused['id']}")
    assert (await member.get(f"/files/{refused['id']}/download")).status_code == 409
    assert await factory.superuser.fetchval("SELECT count(*) FROM file_removals WHERE key LIKE 'eu:t/%'")


@pytest.mark.parametrize("fault", ["down", "hang", "garbled"])
async def test_a_file_waits_while_nobody_can_scan_it(
    fault: str,
    member: Client,
    factory: Factory,
    look: Look,
    clamd: Clamd,
    resources: Resources,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fail closed: harmless or not, it is served when a scanner has said so, and not a moment earlier."""
    monkeypatch.setattr(scanner.Scanner.scan, "__kwdefaults__", {"deadline": 0.3})
    clamd.knobs = ClamdKnobs(**{fault: True})
    await send(member, "notes.txt", b"harmless")
    file = await only_file(factory)
    await look()
    assert await state_of(factory, file["id"]) == "pending"
    assert (await member.get(f"/files/{file['id']}/download")).status_code == 409
    assert "Being checked" in await member.page(f"/files/{file['id']}")
    clamd.knobs = ClamdKnobs()
    resources.provide(scanner.Scanner, scanner.Scanner(resources.settings))  # with other files, it is left alone by now
    clock.advance(timedelta(seconds=30))
    await look()
    assert await state_of(factory, file["id"]) == "clean"


async def test_a_virus_is_locked_away_and_staff_see_it(member: Client, factory: Factory, look: Look) -> None:
    await send(member, "invoice.txt", b"hello\n" + EICAR)
    await look()
    file = await only_file(factory)
    assert file["state"] == "quarantined"
    assert "virus scanner recognized it" in await member.page("/files")
    assert (await member.get(f"/files/{file['id']}/download")).status_code == 409
    async with await factory.client(await factory.person(staff=True), "password", "totp") as staff:
        page = await staff.page("/staff/quarantine")
    assert "EICAR" in page
    assert str(file["id"]) in page
    assert "invoice.txt" not in page, "staff see what was found, not what the customer calls it"


async def test_what_is_no_upload_is_refused_at_once(member: Client, factory: Factory) -> None:
    """Kind by name, content by its first bytes, nothing in it, two files: a sentence each, and no room is lost."""
    for name, content, status, sentence in (
        ("page.html", b"<script>", 415, "Files of this kind are not taken."),
        ("photo.jpg.exe", b"MZ", 415, "Files of this kind are not taken."),
        ("photo.png", b"<svg onload=x()>", 415, "The content is not that of a png file."),
        ("table.csv", b"a,\0", 415, "The content is not that of a csv file."),
        ("nothing.txt", b"", 400, "The file is empty."),
    ):
        answer = await send(member, name, content)
        assert (answer.status_code, sentence in answer.text) == (status, True), (name, answer.status_code)
    two = [("file", ("a.txt", b"a")), ("file", ("b.txt", b"b"))]
    answer = await member.http.post("/files", data={"csrf": member.csrf}, files=two)
    assert (answer.status_code, "exactly one file" in answer.text) == (400, True)
    answer = await member.http.post("/files", data={"csrf": member.csrf, "x": "y" * 5_000}, files=two[:1])
    assert (answer.status_code, "too long" in answer.text) == (400, True)
    rows = await factory.superuser.fetch(
        "SELECT state, size, key FROM files WHERE state IN ('receiving', 'abandoned') AND created_at > $1",
        clock.now() - timedelta(minutes=1),
    )
    assert {(row["state"], row["size"], row["key"]) for row in rows} <= {("abandoned", 0, "")}


async def test_another_site_cannot_send_a_file(member: Client, factory: Factory) -> None:
    name = f"{uuid4().hex}.txt"
    for csrf in ("", "guessed"):
        assert (await send(member, name, b"x", csrf=csrf)).status_code == 403
    foreign = await member.http.post(
        "/files", data={"csrf": member.csrf}, files={"file": (name, b"x")}, headers={"origin": "https://evil.test"}
    )
    assert foreign.status_code == 403
    kept = "SELECT count(*) FROM files WHERE name = $1"
    assert await factory.superuser.fetchval(kept, name) == 0
    assert (await send(member, name, b"x")).status_code == 303, "the very file that is taken from our own page"
    assert await factory.superuser.fetchval(kept, name) == 1


async def test_the_plan_says_how_much_there_may_be_with_the_bin(
    factory: Factory, look: Look, resources: Resources, maintenance: Database
) -> None:
    person = await factory.person(Role.MEMBER)
    assert person.organization_id is not None
    await factory.plan(person.organization_id, "free", limits={"megabytes": 1})
    async with await factory.client(person) as client:
        assert (await send(client, "a.txt", b"x" * 900_000)).status_code == 303
        full = await send(client, "b.txt", b"x" * 200_000)
        assert full.status_code == 403
        assert "includes 1 megabytes, and you have 1" in full.text
        file = await only_file(factory)
        await client.post(f"/files/{file['id']}/delete", csrf=client.csrf)
        assert "They hold 1 MB of your plan" in await client.page("/files/bin")
        assert (await send(client, "b.txt", b"x" * 200_000)).status_code == 403, "the store holds what is in the bin"
        refused = await client.post(f"/files/{file['id']}/discard", csrf=client.csrf)
        assert refused.status_code == 403, "a member could destroy what the bin is there to keep"
        async with await factory.client(await factory.person(Role.ADMIN, person.organization_id)) as admin:
            gone = await admin.post(f"/files/{file['id']}/discard", csrf=admin.csrf)
            assert (gone.status_code, gone.headers["location"]) == (303, "/files/bin")
            assert "a.txt" not in (await admin.page("/files/bin")).replace("“a.txt” is deleted for good", "")
            assert (await admin.post(f"/files/{file['id']}/restore", csrf=admin.csrf)).status_code == 404
        assert (await send(client, "b.txt", b"x" * 200_000)).status_code == 303
    worker = Resources(resources.settings, resources.database, resources.redis, maintenance)
    await purge_expired(worker)
    await removal.remove_given_up(resources, maintenance)
    with pytest.raises(NotStored):
        await resources.get(Storage).size(file["key"])


async def test_what_a_stranger_asks_for_is_not_there(member: Client, factory: Factory, look: Look) -> None:
    await send(member, "ours.txt", b"ours")
    await look()
    file = await only_file(factory)
    async with await factory.client(await factory.person(Role.OWNER)) as stranger:
        for path in (f"/files/{file['id']}", f"/files/{file['id']}/download", "/downloads/AAAA"):
            assert (await stranger.get(path)).status_code == 404
        assert "ours.txt" not in await stranger.page("/files")
    async with await factory.client(await factory.person(Role.VIEWER, file["organization_id"])) as viewer:
        assert (await viewer.get(f"/files/{file['id']}/download")).status_code == 303
        assert (await send(viewer, "x.txt", b"x")).status_code == 403


async def test_what_is_purged_is_gone_from_the_store(
    member: Client, factory: Factory, look: Look, resources: Resources, maintenance: Database
) -> None:
    await send(member, "old.txt", b"old")
    await look()
    file = await only_file(factory)
    assert (await member.post(f"/files/{file['id']}/delete", csrf=member.csrf)).headers["location"] == "/files/bin"
    assert (await member.get(f"/files/{file['id']}/download")).status_code == 404
    assert "old.txt" in await member.page("/files/bin")
    storage = resources.get(Storage)
    clock.advance(timedelta(days=31))
    worker = Resources(resources.settings, resources.database, resources.redis, maintenance)
    await purge_expired(worker)
    await removal.remove_given_up(resources, maintenance)
    async with asyncio.timeout(60):  # another test's worker may have been faster, and is just removing it
        with pytest.raises(NotStored):
            while True:
                await storage.size(file["key"])
                await asyncio.sleep(0.05)


async def test_the_sweeper_finds_what_nobody_knows_and_what_is_missing(
    member: Client, factory: Factory, look: Look, resources: Resources, maintenance: Database
) -> None:
    await send(member, "known.txt", b"known")
    await look()
    known = await only_file(factory)
    await send(member, "missing.txt", b"missing")
    await look()
    missing = await only_file(factory)
    storage = resources.get(Storage)

    async def bytes_of_nobody() -> AsyncIterator[bytes]:
        yield b"orphan"

    organization = known["organization_id"]
    orphan, foreign = in_region("eu", new_path(organization)), f"eu:t/{organization}/reports/{'0' * 32}"
    waiting, ended = f"imports/{organization}/{(identifier := uuid4())}", f"eu:imports/{uuid4()}/{uuid4()}"
    # As an import says where its file is that came before there were regions.
    for key in (orphan, foreign, f"eu:{waiting}", ended):
        await storage.put(key, bytes_of_nobody())
    await factory.superuser.execute(AN_IMPORT, identifier, organization, waiting)
    await storage.delete(missing["key"])
    await removal.sweep(resources, maintenance)
    assert await storage.size(orphan) == 6, "younger than a day: its row may be about to be written"
    clock.advance(timedelta(days=2))
    await removal.sweep(resources, maintenance)
    for key in (orphan, ended):
        with pytest.raises(NotStored):
            await storage.size(key)
    assert (await storage.size(known["key"]), await storage.size(waiting)) == (5, 6)
    await factory.superuser.execute("DELETE FROM imports WHERE id = $1", identifier)
    assert await storage.size(foreign) == 6, "whatever else lives in the store is not ours to sweep"
    assert (await state_of(factory, known["id"]), await state_of(factory, missing["id"])) == ("clean", "lost")


async def test_a_file_in_the_bin_can_be_lost_too(
    member: Client, factory: Factory, look: Look, resources: Resources, maintenance: Database
) -> None:
    """The sweep ended at the first of them, each day again, and looked after nothing behind it."""
    await send(member, "binned.txt", b"binned")
    await look()
    file = await only_file(factory)
    await member.post(f"/files/{file['id']}/delete", csrf=member.csrf)
    await resources.get(Storage).delete(file["key"])
    clock.advance(timedelta(days=2))
    await removal.sweep(resources, maintenance)
    assert await state_of(factory, file["id"]) == "lost"


async def test_a_key_that_the_store_refuses_keeps_no_other_one(
    member: Client, factory: Factory, look: Look, resources: Resources, maintenance: Database
) -> None:
    await send(member, "gone.txt", b"gone")
    await look()
    file = await only_file(factory)
    directory, early = f"t/{file['organization_id']}", clock.now() - timedelta(days=900)
    for number, key in enumerate((directory, file["key"])):
        at = early + timedelta(minutes=number)
        await factory.superuser.execute("INSERT INTO file_removals (key, asked_at) VALUES ($1, $2)", key, at)
    await removal.remove_given_up(resources, maintenance)
    with pytest.raises(NotStored):
        await resources.get(Storage).size(file["key"])
    again = await factory.superuser.fetchval("DELETE FROM file_removals WHERE key = $1 RETURNING asked_at", directory)
    assert again > clock.now(), "what was refused is tried again, behind all others"


async def test_who_sends_many_files_waits_for_themselves(
    member: Client, factory: Factory, look: Look, maintenance: Database
) -> None:
    for _ in range(3):
        await send(member, "one of many.txt", b"x")
    async with await factory.client(await factory.person(Role.MEMBER)) as other:
        await send(other, "the only one.txt", b"x")
    async with maintenance.unit_of_work(read_only=True) as work:
        due = [row["organization_id"] for row in await work.raw.fetch(DUE, clock.now())]
    assert len(due) == len({*due})
    await look()


async def test_a_reader_who_takes_nothing_pins_little(
    member: Client, factory: Factory, look: Look, resources: Resources
) -> None:
    await send(member, "long.txt", b"x" * 300_000)
    await look()
    file = await only_file(factory)
    link = links.Link(file["key"], file["name"], file["size"])
    taken = [len(part) async for part in await links.open_link(resources, link)]
    assert (sum(taken), max(taken) <= 64 * 1024) == (file["size"], True)


async def test_slow_readers_of_one_organization_take_only_its_own_places(
    member: Client, factory: Factory, look: Look, resources: Resources
) -> None:
    await send(member, "slow.txt", b"x" * 100_000)
    await look()
    file = await only_file(factory)
    path = urlsplit((await member.get(f"/files/{file['id']}/download")).headers["location"]).path
    theirs = links.Link(new_path(uuid4()), "theirs.txt", 1)
    taken = asyncio.Event()

    async def never_takes(message: Message) -> None:
        if message["type"] == "http.response.body":
            await taken.wait()

    async def says_nothing() -> Message:
        await taken.wait()
        return {"type": "http.disconnect"}

    scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
    ours = links.Link(file["key"], file["name"], file["size"])
    slow = [
        asyncio.create_task(links.HandedOut(resources, ours)(scope, says_nothing, never_takes))
        for _ in range(links.MOST_OF_ONE)
    ]
    await asyncio.sleep(0)
    full = await member.get(path)
    assert (full.status_code, full.headers["retry-after"]) == (503, "10")
    with links.reader_of(theirs):
        assert links.readers.total() == links.MOST_OF_ONE + 1
    taken.set()
    await asyncio.gather(*slow)
    assert (await member.get(path)).status_code == 200
    async with asyncio.timeout(60):  # the last place is given back after the answer has arrived
        while links.readers:
            await asyncio.sleep(0.01)
