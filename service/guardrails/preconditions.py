"""Nobody overwrites what they have not seen: a change says which version it was made from, or is refused.

Protects from: the lost update. Two programs read one record, both change it, and the second undoes the first without
anybody noticing (RFC 9110, 13.1.1). How to use: a GET of one thing answers with `show(response, moment)`, its PATCH,
PUT and DELETE take `unchanged: IfMatch` after the context, and the action, once it holds the row's lock, says

    preconditions.insist(ctx, indicator.changed_at)      # 412 unless `If-Match` names this version

Nothing is checked twice: a route that takes the header and calls an action that never insists fails, and is undone.

Limits: the header may be missing. A PATCH changes only the fields that it sends, so most programs overwrite nothing;
whoever computes a new value from an old one sends it. The version is the moment of the last change, in microseconds.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Depends, Header
from starlette.requests import Request
from starlette.responses import Response

from service.core.context import Context
from service.core.errors import BadRequest, PreconditionFailed

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TAGS = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"(?:\s*,\s*(?:W/)?"[\x21\x23-\x7e]*")*')
TAG = re.compile(r'(?:W/)?"[^"]*"')


def tag(moment: datetime) -> str:
    """The strong entity tag of what was last changed at this moment."""
    return f'"{(moment - EPOCH) // timedelta(microseconds=1):x}"'


def show(response: Response, moment: datetime) -> None:
    response.headers["ETag"] = tag(moment)


def insist(ctx: Context, moment: datetime) -> None:
    """Raise PreconditionFailed when the caller has seen another version. Call it with the row locked: before that,
    two who have seen the same version would both find it unchanged."""
    wanted, ctx.if_match = ctx.if_match, ()
    if wanted and tag(moment) not in wanted:  # strong comparison: W/"..." equals nothing (RFC 9110, 8.8.3.2)
        raise PreconditionFailed("Somebody has changed it since you read it; nothing was changed now.")


async def _if_match(
    request: Request,
    if_match: Annotated[
        str | None,
        Header(
            description="The ETag of the version that this change was made from; 412 when there is a newer one.",
            examples=['"64e5d1c0a7b3f"'],
        ),
    ] = None,
) -> AsyncIterator[None]:
    ctx: Context | None = request.scope["state"].get("context")
    if ctx is None:
        raise RuntimeError("IfMatch comes after the context parameter")
    sent = ", ".join(request.headers.getlist("if-match")).strip()
    if sent and sent != "*":  # which means "any version": what is not there is 404 anyway
        if not TAGS.fullmatch(sent):
            raise BadRequest(
                "The header 'If-Match' is no list of entity tags.", mend="Send the ETag as you got it, quotes included."
            )
        ctx.if_match = tuple(TAG.findall(sent))
    yield
    if ctx.if_match:
        raise RuntimeError("the route takes IfMatch, but its action never called preconditions.insist")


IfMatch = Annotated[None, Depends(_if_match, scope="function")]
