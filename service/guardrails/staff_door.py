"""The staff panel exists for staff alone; and they enter with a second factor, a fresh proof, and a note in the log.

Protects from: a panel that strangers find, and try (OWASP A01; ASVS 8.2.1, 6.3.3, 7.5.3); a phished password or an
open laptop of one colleague that opens every customer's data; staff work that nobody can trace. How to use: nothing to
do; `StaffCtx` (guardrails.contexts) goes through here. Whoever is not staff, logged in or not, gets the very answer
that an address nobody knows gets: everything that could differ, the check against forged requests too, comes after it
is known to be one of us.

Limits: whoever asks so often that a limit refuses them, in a session with a second factor, is told of the limit and so
of the address: who is staff is not looked up for a refusal. How long the answer takes is not made equal; the addresses
are in the source that everybody can read.
"""

from __future__ import annotations

from starlette.requests import Request

from service.core.context import ActorKind, Context
from service.core.errors import NOTHING_HERE, Forbidden, NotFound, ServiceError, StepUpRequired, TooManyRequests
from service.guardrails import break_glass, browser, gate, hipaa, impersonation, sessions
from service.guardrails.permissions import is_fresh

KNOWN = (
    "identity",
    "context",
    "entitlements",
    "switches",
    "counts",
    "mail_late",
    "login",
    gate.STATE,
    impersonation.STATE,
    gate.REFUSED,
)
"""What a request's state says of who asked."""


def insist_on_staff(ctx: Context) -> None:
    if ctx.actor.kind is not ActorKind.STAFF:
        ctx.deny("staff.enter")
        raise NotFound(NOTHING_HERE)


async def admit(request: Request, ctx: Context) -> None:
    """From here on staff act for nobody's organization, and read all. Raises Forbidden or StepUpRequired."""
    if not break_glass.proves(ctx):
        ctx.deny("staff.enter")
        raise Forbidden(
            "Staff pages ask for a second factor.",
            mend="Log out and in again with your password and a code from your app. Without an app: have an operator "
            "take you off the staff, turn on codes under Account, Security, and be added again.",
        )
    if not is_fresh(ctx):
        raise StepUpRequired("Staff pages ask for a fresh proof of who you are.")
    await browser.refuse_forgery(request, ctx.login, ctx.settings)
    ctx.organization_id = ctx.role = ctx.entitlements = None
    ctx.work.staff = True
    await ctx.work.act_for(tenant=None, user=ctx.user_id)
    ctx.note("staff.enter", "done", method=request.method, path=request.url.path)


def is_expected(request: Request, error: ServiceError) -> bool:
    """Whether whoever was refused before the door may know that there is one: one of us, as far as can be told."""
    state = request.scope["state"]
    if isinstance(error, hipaa.SecondFactorRequired):
        return bool(state["identity"].is_staff)
    session, found = state.get(gate.REFUSED, ("", b""))
    if not isinstance(error, TooManyRequests) or not found:
        return False
    sessions.refuse_rotated(found)
    return bool({"totp", break_glass.METHOD} & set(sessions.unpack(session, found).methods))


def unknown(request: Request) -> NotFound:
    """The answer to an address that does not exist, which knows nobody."""
    for name in KNOWN:
        request.scope["state"].pop(name, None)
    return NotFound(NOTHING_HERE)
