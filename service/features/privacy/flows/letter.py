"""A copy for somebody who cannot log in and has proved in another way who they are: made from a shell, handed over by
hand or by post. No link goes anywhere, which would open everything about them to whoever reads their mailbox."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from service.core import clock
from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.database import Database
from service.core.errors import Conflict, NotFound
from service.core.ids import new_id
from service.features.privacy.actions import copy_by_letter
from service.features.privacy.flows.archive import zipped
from service.features.privacy.flows.contents import person_of, personal_entries
from service.features.privacy.flows.progress import Progress


@dataclass(slots=True)
class Alone(Progress):
    """Nobody watches a page meanwhile, and no other worker makes the same."""

    async def tell(self) -> None:
        self.told_at = time.monotonic()


async def write_copy(resources: Resources, maintenance: Database, email: str, reason: str, out: Path) -> int:
    """How many bytes it has. It is on record, and its person told, before the first row is read."""
    try:
        file = os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except OSError as error:
        raise Conflict(f"{out} cannot be made: {error.strerror}.", mend="Name a file that is not there yet.") from error
    with file:
        try:
            async with resources.database.unit_of_work(tenant=None) as work:
                user_id = (await copy_by_letter(Context(work, resources, SYSTEM, Caller("shell")), email, reason)).id
            person = await person_of(maintenance, user_id)
            if person is None:
                raise NotFound("There is no account with this address.")
            progress = Alone(maintenance, new_id(), new_id(), clock.now())
            async for part in zipped(personal_entries(resources, maintenance, person, progress)):
                file.write(part)
            file.flush()  # here, where a full disk removes what there is
            return file.tell()
        except BaseException:
            _remove(out)
            raise


def _remove(out: Path) -> None:
    """Half a copy is worth nothing, and personal all the same."""
    out.unlink()
