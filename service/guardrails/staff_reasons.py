"""Staff see personal data for a reason: asked first, kept for a quarter of an hour, written down at each look.

Protects from: a colleague's idle curiosity, and a stolen staff session that reads everybody without a trace (GDPR
Art. 5(1)(f), 32; ISO 27018 A.10.1). How to use: a page or export for staff asks

    reason = await staff_reasons.given(ctx, "/staff/people")   # "" while nobody has said why: then show ids only

and leaves personal values out while the answer is empty; the action admin.give_reason keeps one. `given` notes the look
in the audit log: who, whose data (the subject: an address of the panel), why. The listings of service/web/staff do
all this by themselves, for each column that says `personal=True`.

Limits: it does not judge the reason; people do, reading the log. A reason belongs to one login and one subject. Redis
away: nobody has given one.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from service.core.context import Context
from service.core.crypto import keyed_hash
from service.core.errors import NotAuthenticated, Unavailable
from service.core.redis import LOST
from service.core.schemas import Line

LASTS = timedelta(minutes=15)
SHORTEST, LONGEST = 10, 200

Reason = Annotated[
    Annotated[Line, StringConstraints(min_length=SHORTEST, max_length=LONGEST)],
    Field(title="Reason", description="A ticket or a sentence. It stands in the log beside your name."),
]


async def keep(ctx: Context, subject: str, reason: str) -> None:
    """From now on this login may see the personal data of `subject`. Raises Unavailable while Redis is away."""
    try:
        await ctx.resources.redis.set(_key(ctx, subject), reason, px=LASTS)
    except LOST as error:
        raise Unavailable("Reasons cannot be kept right now.", retry_after=5) from error


async def given(ctx: Context, subject: str, *, account: object = None) -> str:
    """Why this login may see the personal data of `subject`, or nothing; a look is noted, with `account` as whose."""
    if reason := await find(ctx, subject):
        note_look(ctx, subject, reason, **({"account": str(account)} if account is not None else {}))
    return reason


async def find(ctx: Context, subject: str) -> str:
    """The same without a note, for whoever notes the look by `note_look` when it is known what was seen."""
    try:
        found = await ctx.resources.redis.get(_key(ctx, subject))
    except LOST:
        return ""
    if not found:
        return ""
    return str(found.decode() if isinstance(found, bytes) else found)


def note_look(ctx: Context, subject: str, reason: str, **seen: Any) -> None:
    ctx.note("staff.read_personal", "done", about=subject, reason=reason, **seen)


def _key(ctx: Context, subject: str) -> str:
    """Of the login and not of the cookie, which each proof of identity replaces."""
    if ctx.login is None:
        raise NotAuthenticated("This needs a login.")
    login = f"{ctx.login.user_id}|{ctx.login.created_at.timestamp()}|{subject}"
    return f"{ctx.settings.redis_namespace}:why:{keyed_hash('staff-reason', login).hex()}"
