"""One turn of an import: read on where the last transaction ended, some seconds long, then somebody else's turn.

    read a piece, parse it in a thread -> one short transaction: store it, its verdicts, and how far we have come

All or nothing in two passes. The first keeps good rows aside (import_rows) and looks at every one, also at two rows of
the file that contradict each other a million rows apart; only when none is bad are they moved, a piece per transaction.
Not one transaction for all: it would hold the indicators' locks for minutes and keep the audit log from being sealed.
What the first pass cannot rule out is that somebody stores another value for a moment during the second; that row is
then refused and named, and the import says so.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import select

from service.core.context import SYSTEM, Actor, ActorKind, Caller, Context, Resources
from service.core.database import Database, UnitOfWork
from service.core.errors import Unavailable
from service.core.logging import get_logger
from service.core.statements import Prepared, context_tenant
from service.features.imports.actions import finish_import
from service.features.imports.flows.cells import Wrong
from service.features.imports.flows.claim import Cancelled, Claim, Lost, advance, claim, forget_file, give_back, hold
from service.features.imports.flows.layout import Layout, layout_of
from service.features.imports.flows.metrics import ended, rows
from service.features.imports.flows.parse import Parsed, parse
from service.features.imports.flows.pieces import pieces
from service.features.imports.flows.store import (
    ADDED,
    REFUSED,
    UNCHANGED,
    Reading,
    Verdicts,
    append,
    read,
    set_aside,
    take,
)
from service.features.imports.flows.verdicts import KEEP, as_lines
from service.features.imports.models import Mode, State
from service.features.indicators.actions import LOCKED
from service.features.organizations.models import Organization
from service.guardrails import entitlements, switches
from service.guardrails.jobs.runner import where
from service.integrations.storage import NotStored, Storage, StorageAway

log = get_logger()

TURN_SECONDS = 5.0
AT_ONCE = 5_000
MOST_LINES = 5_000_000
MOST_REFUSED = 10_000
ATTEMPTS, ATTEMPTS_TO_STORE = 5, 30
"""The second is some two hours: what has begun to be stored is better stored late than in part."""
SHORT, LONG, LONGEST = timedelta(seconds=2), timedelta(seconds=10), timedelta(minutes=5)
STORE_AWAY = "The store of files does not answer. The import goes on by itself when it does."
DATABASE_AWAY = "The import had to wait and goes on by itself."
OUR_FAULT = "Something went wrong on our side. It is tried again by itself."
STORED_IN_PART = (
    "Something goes wrong on our side each time, so only some rows are stored. Upload it again: none is stored twice."
)
BROKEN = "Something goes wrong on our side each time. Upload the file again later, or write to us."
LOST_ON_ITS_WAY = "The upload ended before the file was complete. Upload it again."
FILE_GONE = "The uploaded file is gone. Upload it again: what is stored already is not stored twice."
EMPTY = "The file is empty. Begin with a row that names the columns, like time,value."
NOTHING_STORED = "Nothing was stored, because some rows are wrong. Mend them as the verdicts say and upload it again."
TOO_MANY_WRONG = f"More than {MOST_REFUSED:,} rows are wrong, so reading stopped. Mend what they have in common first."
TOO_LONG = f"The file has more than {MOST_LINES:,} rows. Split it; what is stored already is not stored twice."
MEANWHILE = "Another value was stored for this moment while the file was. The row above says what was found first."


class Ended(Exception):
    """No more to do: how it ended, and the sentence for the page."""

    def __init__(self, state: State, sentence: str = "") -> None:
        super().__init__(state)
        self.state, self.sentence = state, sentence


ALIVE = Prepared(select(Organization.id).where(Organization.id == context_tenant()))


async def take_turn(resources: Resources, maintenance: Database) -> bool:
    """Work on the import whose turn it is; False when there is none."""
    if (held := await claim(resources, maintenance)) is None:
        return False
    try:
        if not held.finished:
            await _go_on(resources, held)
        if held.finished and await _nothing_aside(resources, held):
            await resources.get(Storage).delete(held.object_key)
            await forget_file(resources, held)
        else:
            await give_back(resources, held)
    except Lost:
        log.info("import taken over", import_id=str(held.id))
    except StorageAway:
        await give_back(resources, held, remark=STORE_AWAY, wait=LONG)
    except (Unavailable, OSError) as error:
        log.warning("import waits", import_id=str(held.id), error=type(error).__name__)
        await give_back(resources, held, remark=DATABASE_AWAY, wait=SHORT)
    except asyncio.CancelledError:
        # The worker is stopped: the next one need not wait until the lease has run out.
        await asyncio.shield(give_back(resources, held))
        raise
    except Exception as error:  # a mistake of ours in one file must not keep everybody else's waiting
        log.error("import failed", import_id=str(held.id), error=type(error).__name__, where=where(error))
        wait = min(SHORT * 2 ** min(held.attempts, 8), LONGEST)
        await give_back(resources, held, remark=OUR_FAULT, wait=wait, failures=1)
    return True


async def _go_on(resources: Resources, held: Claim) -> None:
    try:
        if held.state is State.ARRIVING:
            raise Ended(State.STOPPED, LOST_ON_ITS_WAY)
        storing = held.state is State.STORING
        if held.attempts >= (ATTEMPTS_TO_STORE if storing else ATTEMPTS):
            raise Ended(State.STOPPED, STORED_IN_PART if storing else BROKEN)
        until = time.monotonic() + TURN_SECONDS
        if held.state is not State.STORING:
            await _read_on(resources, held, until)
        if held.state is State.STORING:
            await _move(resources, held, until)
    except Ended as end:
        await _finish(resources, held, end)
    except Cancelled:
        await _finish(resources, held, Ended(State.CANCELLED))
    except NotStored:
        await _finish(resources, held, Ended(State.STOPPED, FILE_GONE))
    except entitlements.PaymentDue as due:
        await _finish(resources, held, Ended(State.STOPPED, f"{due.detail} {due.mend}"))


async def _read_on(resources: Resources, held: Claim, until: float) -> None:
    """Pieces until the time is up; at the end of the file decide what becomes of it. Raises Ended."""
    zone = None if held.zone == "UTC" else ZoneInfo(held.zone)
    source = resources.get(Storage).get(held.object_key, held.position, held.size)
    async for piece in pieces(source, held.position):
        lines = piece.lines
        if held.position == 0:
            held.layout, held.line, held.state = _layout(held, lines[0]), 2, State.READING
            lines = lines[1:]
        parsed = await asyncio.to_thread(parse, lines, held.line, Layout.of(held.layout), zone, held.decimal)
        await _store(resources, held, parsed, held.line + len(lines), piece.end)
        for most, seen, sentence in ((MOST_REFUSED, held.refused, TOO_MANY_WRONG), (MOST_LINES, held.line, TOO_LONG)):
            if seen > most:
                raise Ended(State.REFUSED if held.mode is Mode.ALL else State.STOPPED, sentence)
        if time.monotonic() > until:
            return
    if held.position == 0:
        raise Ended(State.REFUSED, EMPTY)
    if held.mode is Mode.GOOD:
        raise Ended(State.DONE)
    if held.refused:
        raise Ended(State.REFUSED, NOTHING_STORED)
    held.state = State.STORING


def _layout(held: Claim, first: bytes) -> str:
    try:
        return str(layout_of(first, names_indicators=held.indicator_id is None))
    except Wrong as wrong:
        raise Ended(State.REFUSED, str(wrong)) from None


async def _store(resources: Resources, held: Claim, parsed: Parsed, next_line: int, end: int) -> None:
    """One transaction: the readings (or, of an all-or-nothing import, what is kept aside), verdicts, the progress."""
    async with resources.database.unit_of_work(tenant=held.organization_id) as work:
        ctx = _context(work, resources, held)
        await switches.refuse_while_read_only(ctx)
        await entitlements.refuse_while_unpaid(ctx)
        if await work.fetch_one(ALIVE) is None:
            raise Cancelled
        await hold(work, held)
        readings, verdicts = await read(work, parsed, held.indicator_id)
        if held.mode is Mode.ALL:
            await set_aside(work, readings, verdicts, held.id)
        else:
            await append(work, readings, verdicts)
        number, held.line, held.position = held.line, next_line, end
        await _write_down(work, held, number, verdicts, _fed(readings, verdicts), rows=len(verdicts))


async def _move(resources: Resources, held: Claim, until: float) -> None:
    """What was kept aside becomes readings, a piece per transaction. Raises Ended when nothing is left."""
    while True:
        async with resources.database.unit_of_work(tenant=held.organization_id) as work:
            await switches.refuse_while_read_only(_context(work, resources, held))
            await hold(work, held)
            if not (some := await take(work, held.id, AT_ONCE)):
                raise Ended(State.DONE, f"{held.refused} rows were not stored." if held.refused else "")
            await work.fetch(LOCKED, ids=list({each.indicator_id for each in some}))
            found: Verdicts = {}
            await append(work, some, found)
            refused = {line: (REFUSED, MEANWHILE) for line, (verdict, _) in found.items() if verdict == REFUSED}
            # A number of its own for what is said here, after those of the file's lines.
            held.line += 1
            await _write_down(work, held, held.line, refused, _fed(some, found), added=len(some) - len(refused))
        if time.monotonic() > until:
            return


def _fed(readings: list[Reading], verdicts: Verdicts) -> set[UUID]:
    return {each.indicator_id for each in readings if verdicts[each.line][0] == ADDED}


async def _write_down(
    work: UnitOfWork, held: Claim, number: int, verdicts: Verdicts, fed: set[UUID], **more: int
) -> None:
    tally = Counter(verdict for verdict, _ in verdicts.values())
    if verdicts:
        told = {"refused": tally[REFUSED], "report": as_lines(verdicts)}
        await work.fetch(KEEP, import_id=held.id, number=number, **told)
    counts = {"added": tally[ADDED], "unchanged": tally[UNCHANGED], "refused": tally[REFUSED], **more}
    await advance(work, held, fed, **counts)
    for verdict, count in tally.items():
        rows.labels(verdict).inc(count)


async def _finish(resources: Resources, held: Claim, end: Ended) -> None:
    """The one line of the audit log that says how it ended; from then on nobody goes on with it."""
    held.finished = True
    async with resources.database.unit_of_work(tenant=held.organization_id) as work:
        await hold(work, held)
        await finish_import(_context(work, resources, held), held.id, end.state, end.sentence)
    ended.labels(end.state).inc()


async def _nothing_aside(resources: Resources, held: Claim) -> bool:
    """Clear up after the end, for a turn's length; False when there is more."""
    until = time.monotonic() + TURN_SECONDS
    while True:
        async with resources.database.unit_of_work(tenant=held.organization_id) as work:
            await hold(work, held)
            if not await take(work, held.id, AT_ONCE):
                return True
        if time.monotonic() > until:
            return False


def _context(work: UnitOfWork, resources: Resources, held: Claim) -> Context:
    by = Actor(ActorKind.USER, held.created_by) if held.created_by else None
    caller = Caller(request_id=f"import-{held.id}")
    return Context(work, resources, SYSTEM, caller, organization_id=held.organization_id, on_behalf_of=by)
