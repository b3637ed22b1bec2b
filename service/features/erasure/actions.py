"""Writes: asking to be erased, and thinking better of it; two members of staff for somebody who wrote; the machine."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from service.core import clock
from service.core.context import Context
from service.core.errors import Conflict, Forbidden, Invalid, NotFound
from service.features.accounts.actions import before_deletion, before_restore, obstacles
from service.features.accounts.models import User
from service.features.erasure.models import COOLING_OFF, OPEN, ErasureRequest, Source, State
from service.guardrails import soft_delete
from service.guardrails.actions import action
from service.guardrails.permissions import Who
from service.guardrails.purge import refuse_while_held
from service.guardrails.subjects import address_hash


@action("erasure.ask", requires=Who.SIGNED_IN, step_up=True)
async def ask(ctx: Context, typed_email: str) -> ErasureRequest:
    """The person themselves, after a fresh proof: it begins in a day, unless they take it back."""
    user = await ctx.get(User, ctx.user_id)
    if typed_email.strip().lower() != user.email:
        raise Invalid("This is not your address.", fields={"email": "This is not the address of your account."})
    request = await _new(ctx, user, Source.PERSON)
    _verify(ctx, request)
    return request


@action("erasure.withdraw", requires=Who.SIGNED_IN, step_up=True)
async def withdraw(ctx: Context) -> ErasureRequest:
    """Before it has begun, after a fresh proof as for asking; also when staff had entered it."""
    request = await _open_of(ctx, ctx.user_id)
    if request is None:
        raise NotFound("There is no request to take back.", mend="Nothing to do.")
    if request.state == State.EXECUTING:
        raise Conflict(
            "Your data are being erased already; it cannot be taken back any more.",
            mend="You need do nothing; sign up again once that is done, if you like.",
        )
    _end(request, State.WITHDRAWN)
    return request


@action("erasure.enter", requires=Who.STAFF, step_up=True)
async def enter(ctx: Context, email: str, reason: str) -> ErasureRequest:
    """For somebody who wrote to us. Nothing happens until a colleague has checked that it was them."""
    _refuse_emergency(ctx)
    await ctx.work.act_for(tenant=None, user=ctx.user_id)
    wanted = select(User).where(User.email == email.strip().lower()).with_for_update()
    user = await ctx.db.scalar(wanted, execution_options={"include_deleted": True})
    if user is None:
        ctx.note("erasure.enter", "refused", sought=address_hash(email).hex())
        raise NotFound("There is no account with this address.", mend="Check the address; perhaps it is gone already.")
    if user.is_staff:
        ctx.note("erasure.enter", "refused", account=str(user.id))
        raise Conflict("This is a colleague's account.", mend="Take the staff rights away first.")
    request = await _new(ctx, user, Source.STAFF)
    request.reason = reason
    ctx.facts |= {"reason": reason}
    return request


@action("erasure.verify", requires=Who.STAFF, step_up=True)
async def verify(ctx: Context, request_id: UUID, reason: str) -> ErasureRequest:
    """A second member of staff has checked who wrote; from now on the day to think better of it runs."""
    _refuse_emergency(ctx)
    request = await _requested(ctx, request_id)
    if request.requested_by == ctx.user_id:
        raise Forbidden("You entered this request yourself.", mend="Ask a colleague to check who wrote.")
    _verify(ctx, request)
    ctx.facts |= {"reason": reason, "account": str(request.user_id)}
    return request


@action("erasure.refuse", requires=Who.STAFF, step_up=True)
async def refuse(ctx: Context, request_id: UUID, reason: str) -> ErasureRequest:
    """It was not them, or a law is in the way; the person gets a mail that says so."""
    request = await _requested(ctx, request_id)
    request.held = reason
    _end(request, State.REFUSED)
    ctx.facts |= {"reason": reason, "account": str(request.user_id)}
    return request


@action("erasure.begin", requires=Who.SYSTEM, while_read_only=True)
async def begin(ctx: Context, request_id: UUID) -> ErasureRequest:
    """No way back from here: the account is closed. Raises Conflict while something forbids it."""
    request = await _locked(ctx, request_id)
    if request.state != State.WAITING or request.due_at is None or request.due_at > clock.now():
        raise Conflict("This request is not due.")
    await refuse_while_held(ctx.work, request.user_id)
    wanted = select(User).where(User.id == request.user_id).with_for_update()
    user = await ctx.db.scalar(wanted, execution_options={"include_deleted": True})
    if user is not None:
        request.email = user.email
        if user.deleted_at is None:
            for agree in before_deletion:
                await agree(ctx, user)
            await soft_delete.delete(ctx, user)
        user.end_sessions()
        await ctx.work.act_for(tenant=None, user=None)
    request.state, request.began_at, request.held, request.attempts = State.EXECUTING, clock.now(), "", 0
    return request


@action("erasure.finish", requires=Who.SYSTEM, while_read_only=True)
async def finish(ctx: Context, request_id: UUID) -> ErasureRequest:
    request = await _locked(ctx, request_id)
    if request.state != State.EXECUTING:
        raise Conflict("This request is not being carried out.")
    _end(request, State.DONE)
    request.held = ""
    return request


async def _new(ctx: Context, user: User, source: Source) -> ErasureRequest:
    if await _open_of(ctx, user.id) is not None:
        raise Conflict("There is an open request already.", mend="See how far it is.")
    if user.deleted_at is None:
        for check in obstacles:
            await check(ctx, user)
    request = ErasureRequest(
        user_id=user.id, email=user.email, state=State.REQUESTED, source=source, requested_by=ctx.user_id
    )
    ctx.add(request)
    await ctx.db.flush()
    ctx.facts |= {"account": str(user.id)}
    return request


def _refuse_emergency(ctx: Context) -> None:
    """Whoever has a shell can open emergency rights for a second account: that would be no second person."""
    if ctx.emergency:
        raise Forbidden("You have emergency rights at this moment.", mend="Let two colleagues who have none do this.")


def _verify(ctx: Context, request: ErasureRequest) -> None:
    now = clock.now()
    request.state, request.verified_at, request.verified_by = State.WAITING, now, ctx.user_id
    request.due_at = request.next_attempt_at = now + COOLING_OFF


def _end(request: ErasureRequest, state: State) -> None:
    """An ended request needs the address no more, nor the words of the letter."""
    request.state, request.finished_at, request.email, request.reason = state, clock.now(), None, None


async def _open_of(ctx: Context, user_id: UUID, *states: State) -> ErasureRequest | None:
    wanted = select(ErasureRequest).where(ErasureRequest.user_id == user_id, ErasureRequest.state.in_(states or OPEN))
    found: ErasureRequest | None = await ctx.db.scalar(wanted.with_for_update())
    return found


async def _requested(ctx: Context, request_id: UUID) -> ErasureRequest:
    await ctx.work.act_for(tenant=None, user=ctx.user_id)
    request = await _locked(ctx, request_id)
    if request.state != State.REQUESTED:
        raise Conflict("This request does not wait for a check.", mend="Reload the page.")
    return request


async def _locked(ctx: Context, request_id: UUID) -> ErasureRequest:
    return await ctx.get(ErasureRequest, request_id)


async def _forbid_return(ctx: Context, user: User) -> None:
    """Who is half forgotten comes back as nobody: Stripe, mail and files are emptied before the account goes."""
    # Without a lock: `begin` holds the account's before it says so, and the machine's own steps take theirs first.
    going = select(ErasureRequest.id).where(ErasureRequest.user_id == user.id, ErasureRequest.state == State.EXECUTING)
    if await ctx.db.scalar(going) is not None:
        raise Conflict(
            "This account is being erased, as was asked for.",
            mend="It cannot come back; sign up again once that is done.",
        )


before_restore.append(_forbid_return)
