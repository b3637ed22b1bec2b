"""Our staff in a customer's account: with a reason, for fifteen minutes, looking and hardly touching.

Protects from: the colleague who becomes a customer unseen, for ever, with all their rights (ASVS 8.2.1, 16.3.3; PCI DSS
10.2.1.2). A visit is a session of its own beside the staff's, which is put aside and comes back. It runs as the person:
their role, their organization, their row-level security. PostgreSQL says at each request whether it may go on.

How to use: nothing. An `@action` is refused in a visit unless its line says `while_impersonated=True`, a `@query` is
allowed unless its line says False: for what is secret, leaves as a file, or shows other organizations. The audit log
says that support acted, and for whom (`Context.acted_by`). Visits begin and end in features/support.

Limits: what support sees, it has seen. Pages that need no login are nobody's: what is done there is not done as the
person, and not refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from service.core import clock
from service.core.context import Actor, ActorKind, Context, Login
from service.core.errors import Forbidden, NotAuthenticated

LONGEST = timedelta(minutes=15)
STATE = "visit"


class VisitOver(NotAuthenticated):
    """Pages lead back to the session that was put aside."""

    code, title = "visit-over", "Your visit to this account is over"
    default_mend = "Go back to your own login."
    meaning = "Somebody of our staff was in a customer's account, and may be there no longer. Nothing was done."


class NotInAVisit(Forbidden):
    code, title = "not-in-a-visit", "Not while you are in somebody's account"
    default_mend = "Ask the person to do it themselves, or press Stop and use the staff pages."
    meaning = "Somebody of our staff is in a customer's account, and this is the customer's own to do. It was recorded."


@dataclass(frozen=True, slots=True)
class Visit:
    """What stands above every page of a visit."""

    staff_name: str
    person_name: str
    reason: str
    ends_at: datetime
    emergency: bool = False

    @property
    def minutes_left(self) -> int:
        return max(1, -(-int((self.ends_at - clock.now()).total_seconds()) // 60))


@dataclass(frozen=True, slots=True)
class Oversight:
    """Whether a visit may go on, and what to show of it; provided by the composition root."""

    running: Callable[[Context, Login], Awaitable[Visit | None]]


def begin(ctx: Context, login: Login) -> None:
    """Say who really acts, before anything is done or refused."""
    if login.support is not None:
        ctx.acted_by = Actor(ActorKind.STAFF, login.support.staff_id)


class Person(Protocol):
    """Whose account it is, as PostgreSQL has them at this moment."""

    @property
    def is_staff(self) -> bool: ...
    @property
    def session_epoch(self) -> int: ...


async def confirm(ctx: Context, state: dict[str, Any], person: Person | None) -> None:
    """Raise VisitOver unless the visit may go on at this moment; leave what pages show of it in the request's state."""
    if ctx.login is None or ctx.login.support is None:
        return
    lives = person is not None and person.session_epoch == ctx.login.epoch and not person.is_staff
    visit = await ctx.resources.get(Oversight).running(ctx, ctx.login) if lives else None
    if visit is None:
        raise VisitOver("You may be in this account no longer.")
    state[STATE] = visit
    ctx.emergency = visit.emergency


def refuse_ended(login: Login | None) -> None:
    """At the door: a visit is not prolonged by being used."""
    if login is not None and login.support is not None and login.support.ends_at <= clock.now():
        raise VisitOver(f"Your {LONGEST.seconds // 60} minutes in this account are over.")


def permits(ctx: Context, *, marked: bool) -> bool:
    return ctx.acted_by is None or marked


def refuse(ctx: Context, name: str, *, marked: bool) -> None:
    """Raise NotInAVisit for what support may not do in somebody's account; it is recorded."""
    if not permits(ctx, marked=marked):
        ctx.deny(name)
        raise NotInAVisit("Support may look around in this account, and not do this.")
