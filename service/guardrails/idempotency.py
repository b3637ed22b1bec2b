"""One intent, one effect: a client that repeats a POST with the same key gets the first answer, not a second effect.

Protects from: the retry after a lost answer that charges, creates or sends twice (ASVS 2.3.4). How to use:
`key: IdempotencyKey` after the context parameter of the route, on a router made with `route_class=IdempotentRoute`.

    same key, same request      the stored answer, with `Idempotent-Replayed: true`
    same key, another request   422
    same key, still running     409 with Retry-After
    no key                      400

How: before the action, one statement takes an advisory lock for (organization or person, actor, route, key) and looks
for a stored answer. Nobody waits for the lock: a waiting twin would hold a pooled connection. After the action the
answer is stored in the SAME transaction, so it exists exactly when the change does: an error, a rollback or a crash
leaves neither, and the retry runs again. The unique key catches what a lock could miss; then all is rolled back.

A file is read as it comes, so it is not known before its end: a repetition is read as well, to compare it, and only
then answered; `claim_of` and `remember` are for that.

Limits: an answer of more than 256 kB is refused (413); streams cannot be remembered. Answers are encrypted, because
some show a secret once, and purged after a day. Errors are not remembered: they changed nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b, sha256
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import Depends, Header
from fastapi.routing import APIRoute
from sqlalchemy import CheckConstraint, String
from sqlalchemy.orm import Mapped, mapped_column
from starlette.requests import Request
from starlette.responses import Response

from service.core import clock
from service.core.context import SAFE_METHODS, Context
from service.core.crypto import BadSignature
from service.core.database import Base
from service.core.errors import BadRequest, Conflict, Invalid, PayloadTooLarge
from service.core.statements import PreparedText
from service.guardrails.contexts import admit_body
from service.guardrails.personal_data import internal, pointer, secret
from service.guardrails.retention import days_after
from service.guardrails.sealed import key_index, seal, sealed, unseal
from service.guardrails.strict_json import CheckedRequest
from service.guardrails.uploads.bounds import STREAM

KEY = re.compile(r"[\x21-\x7e]{1,255}")
KEPT_HEADERS = ("content-type", "location", "etag")
LARGEST = 256 * 1024
MEND = "Send a fresh random value, such as a UUID, with each new intent, and the same value when you retry it."

LOOK_FIRST = "Look whether what you asked for is there before you send it with a new key."


class IdempotencyRecord(Base):
    """The answer to one intent. `owner_id` is the organization, or the person where there is none."""

    __tablename__ = "idempotency_keys"
    __retention__ = days_after("created_at", days=1, reason="a client that retries does so within a day")
    __table_args__ = (
        CheckConstraint(f"octet_length(answer) <= {LARGEST + 1024}", "bounded"),
        key_index("idempotency_keys", "answer"),
    )

    owner_id: Mapped[UUID] = mapped_column(primary_key=True, info=internal("tenant"))
    actor_id: Mapped[UUID] = mapped_column(primary_key=True, info=pointer())
    route: Mapped[str] = mapped_column(String(500), primary_key=True, info=internal())
    key: Mapped[str] = mapped_column(String(255), primary_key=True, info=internal())
    fingerprint: Mapped[bytes] = mapped_column(info=internal())
    answer: Mapped[bytes] = mapped_column(info=sealed(secret()))
    created_at: Mapped[datetime] = mapped_column(index=True, info=internal())


LOOK = PreparedText("""
    WITH claim AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(:lock) AS free)
    SELECT free, fingerprint, answer FROM claim LEFT JOIN idempotency_keys
        ON owner_id = :owner AND actor_id = :actor AND route = :route AND key = :key
""")
STORE = PreparedText("""
    INSERT INTO idempotency_keys (owner_id, actor_id, route, key, fingerprint, answer, created_at)
    VALUES (:owner, :actor, :route, :key, :fingerprint, :answer, :now)
    ON CONFLICT DO NOTHING RETURNING 1
""")


@dataclass(slots=True)
class Claim:
    """The right to run one intent, held until the transaction ends."""

    ctx: Context
    head: bytes
    identity: dict[str, Any]
    stored: tuple[bytes, bytes] | None
    """Fingerprint and sealed answer of the first time."""
    tenant: UUID | None
    user: UUID | None
    fingerprint: bytes = b""

    def replay(self, content: bytes) -> Response | None:
        """The stored answer, when there is one to this content, which is remembered; raises Invalid for another one."""
        self.fingerprint = sha256(self.head + b"\0" + content).digest()
        if self.stored is None:
            return None
        if self.stored[0] != self.fingerprint:
            raise Invalid("This Idempotency-Key was used for a different request.", mend=MEND)
        return _load(self, self.stored[1])


class _Replay(Exception):
    """Carries the stored answer past the action to the route."""

    def __init__(self, response: Response) -> None:
        self.response = response


class IdempotentRoute(APIRoute):
    """Reads long bodies for believed keys only, and stores the answer of routes that take an `IdempotencyKey` while
    their transaction is still open."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if not set(self.methods or ()) - SAFE_METHODS:
            return handle
        takes_key = any(dependency.call is _claim for dependency in self.dependant.dependencies)

        async def once(request: Request) -> Response:
            await admit_body(request)
            request, state = CheckedRequest(request.scope, request.receive), request.scope["state"]
            if not takes_key:
                return await handle(request)
            state["idempotent_route"] = True
            try:
                response = await handle(request)
            except _Replay as replay:
                return replay.response
            if STREAM not in state:
                claim = claim_of(request)
                await remember(claim, claim.ctx, response)
            return response

        return once


def claim_of(request: Request) -> Claim:
    found: Claim = request.scope["state"]["idempotency"]
    return found


async def _claim(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(description=f"1 to 255 visible characters. {MEND}", examples=["8b7f7c9e-5f0a-4c6e-9a43-0f6a1f7d2c55"]),
    ] = None,
) -> str:
    state = request.scope["state"]
    ctx: Context | None = state.get("context")
    if ctx is None or "idempotent_route" not in state:
        raise RuntimeError(
            "IdempotencyKey comes after the context parameter, on a router with route_class=IdempotentRoute"
        )
    if idempotency_key is None:
        raise BadRequest("The header 'Idempotency-Key' is missing.", mend=MEND)
    if not KEY.fullmatch(idempotency_key) or len(request.headers.getlist("idempotency-key")) > 1:
        raise BadRequest(
            "The header 'Idempotency-Key' is not one value of 1 to 255 visible ASCII characters.", mend=MEND
        )
    owner, actor = ctx.work.tenant or ctx.work.user, ctx.actor.id
    if owner is None or actor is None:
        raise RuntimeError("an idempotency key belongs to an actor: a public route cannot have one")
    url = request.url
    identity = {"owner": owner, "actor": actor, "route": f"{request.method} {url.path}"[:500], "key": idempotency_key}
    head = b"\0".join((url.path.encode(), url.query.encode()))
    found = await ctx.fetch_one(LOOK, lock=_lock_number(identity), **identity)
    if found is None or not found["free"]:
        raise Conflict("A request with this Idempotency-Key is still running.", mend="Try again.", retry_after=1)
    stored = (found["fingerprint"], found["answer"]) if found["answer"] is not None else None
    claim = state["idempotency"] = Claim(ctx, head, identity, stored, ctx.work.tenant, ctx.work.user)
    if STREAM not in state and (known := claim.replay(await request.body())) is not None:
        raise _Replay(known)
    return idempotency_key


IdempotencyKey = Annotated[str, Depends(_claim)]


def _lock_number(identity: dict[str, Any]) -> int:
    """64 bits of the identity; two that collide would only make one client wait and try again."""
    digest = blake2b(repr(list(identity.values())).encode(), digest_size=8, person=b"idempotency").digest()
    return int.from_bytes(digest, "big", signed=True)


async def remember(claim: Claim, ctx: Context, response: Response) -> None:
    """Write the answer beside the change; raises Conflict when a twin was faster, and with it undoes the change."""
    work = ctx.work
    if work.read_only:
        return  # the action failed and was undone; the route chose to explain that itself
    body = bytes(response.body)
    if len(body) > LARGEST:
        raise PayloadTooLarge("The answer would be too large to remember for a retry; nothing was changed.")
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    answer = orjson.dumps([response.status_code, headers]) + b"\n" + body
    if (work.tenant, work.user) != (claim.tenant, claim.user):
        # The action went on in another organization, say one it has just created; the key stays where it was claimed.
        await work.act_for(tenant=claim.tenant, user=claim.user)
    stored = await work.fetch_one(
        STORE,
        **claim.identity,
        fingerprint=claim.fingerprint,
        answer=seal(IdempotencyRecord.answer, answer, *claim.identity.values()),
        now=clock.now(),
    )
    if stored is None:
        raise Conflict("A request with this Idempotency-Key has just finished.", mend="Try again.", retry_after=1)


def _load(claim: Claim, stored: bytes) -> Response:
    try:
        head, _, body = unseal(IdempotencyRecord.answer, stored, *claim.identity.values()).partition(b"\n")
    except BadSignature:
        raise Conflict("This was done, but its answer cannot be read any more.", mend=LOOK_FIRST) from None
    status, headers = orjson.loads(head)
    return Response(body, status, {**headers, "Idempotent-Replayed": "true"})
