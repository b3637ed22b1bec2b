"""Who cannot log in, and has proved who they are, gets their copy by letter: a file, a mail, a row in the log."""

from __future__ import annotations

import asyncio
import re
import zipfile
from pathlib import Path

import pytest

from infra.sandbox.mail import MailSink
from service.core.errors import Conflict, Invalid, NotFound, ServiceError
from service.core.ids import new_id
from service.features.privacy.flows.letter import write_copy
from tests.features.privacy.conftest import Desk, opened
from tests.support.servers import RunningWorker

WHY = "Letter of 3 May, passport seen, ticket 4711"
LOGGED = "SELECT actor_kind, reason FROM audit_log WHERE action = 'privacy.copy_by_letter' AND object_id = $1"


async def test_who_cannot_log_in_gets_their_copy_by_letter(
    desk: Desk, tmp_path: Path, mailbox: MailSink, worker: RunningWorker
) -> None:
    owner, out = desk.owner, tmp_path / "copy.zip"
    await desk.db.execute("UPDATE users SET deleted_at = now(), locked_at = now() WHERE id = $1", owner.id)
    size = await write_copy(desk.resources, desk.maintenance, owner.email.upper(), WHY, out)
    assert (out.stat().st_size, out.stat().st_mode & 0o777) == (size, 0o600)
    with zipfile.ZipFile(out) as archive:
        found = opened(archive)
    assert [(row["id"], row["email"]) for row in found["users.json"]] == [(str(owner.id), owner.email)]
    assert {"README.txt", "information.txt", "staff.json", "sessions.json"} <= set(found)
    assert b"password_hash" not in b"".join(str(part).encode() for part in found.values())
    [row] = await desk.db.fetch(LOGGED, owner.id)
    assert tuple(row) == ("system", WHY)
    async with asyncio.timeout(60):
        while not (mails := mailbox.to(owner.email)):
            await asyncio.sleep(0.05)
    [mail] = mails
    assert mail.subject == "A copy of your data was made for you"
    assert not re.search(r"https?://|copy\.zip", mail.text), "it opens nothing"
    assert desk.resources.settings.privacy_contact in mail.text


async def test_nothing_is_written_where_nothing_may_be(desk: Desk, tmp_path: Path) -> None:
    there, out = tmp_path / "there.zip", tmp_path / "copy.zip"
    there.write_text("somebody's")
    owner = desk.owner.email
    refused: list[tuple[type[ServiceError], str, str, Path]] = [
        (Conflict, owner, WHY, there),
        (Conflict, owner, WHY, tmp_path / "nowhere" / "copy.zip"),
        (Invalid, owner, "asked", out),
        (NotFound, f"{new_id().hex}@example.com", WHY, out),
    ]
    for error, email, reason, path in refused:
        with pytest.raises(error):
            await write_copy(desk.resources, desk.maintenance, email, reason, path)
    assert [path.name for path in tmp_path.iterdir()] == ["there.zip"], "no half of a copy stays behind"
    assert there.read_text() == "somebody's"
    assert await desk.db.fetch(LOGGED, desk.owner.id) == []
