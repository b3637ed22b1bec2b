"""Logging in with another provider: out to it, back from it, and only then a click that changes something.

The provider sends people back with a GET, and a GET changes nothing here. So that page only shows a form with what was
brought, which sends itself where scripts run; state, nonce and PKCE are checked when it arrives.
"""

from __future__ import annotations

import hmac
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Request, Response
from starlette.responses import RedirectResponse

from service.core.context import Context
from service.core.errors import Conflict, Forbidden, ServiceError
from service.features.accounts import actions
from service.features.accounts.pages._shared import Back, browser_of, come_in, go_back, router, way_back, with_session
from service.features.accounts.schemas import ProviderAnswer
from service.guardrails import before_login
from service.guardrails.actions import allow
from service.guardrails.contexts import PublicCtx, UserCtx
from service.guardrails.rate_limits import STEP_UP, TOKEN, limit
from service.integrations.identity import Attempt, ExternalPerson, IdentityProvider, LoginRefused
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.templating import render

HELD = "provider"
STARTS = {"login": "/login", "connect": "/account/security", "confirm": "/confirm"}
"""Why somebody goes to the provider, and the page they came from."""


@router.post("/login/provider")
@limit(TOKEN)
async def begin_login(request: Request, ctx: PublicCtx, back: Back = "") -> Response:
    return await _leave(request, ctx, "login", back)


@router.post("/account/provider")
@limit(TOKEN)
async def begin_connecting(request: Request, ctx: UserCtx) -> Response:
    allow(ctx, actions.connect_identity)
    return await _leave(request, ctx, "connect", "")


@router.post("/confirm/provider")
@limit(STEP_UP)
async def begin_confirming(request: Request, ctx: UserCtx, back: Back = "") -> Response:
    return await _leave(request, ctx, "confirm", back)


@router.get("/login/provider/return")
async def come_back(request: Request, ctx: PublicCtx) -> Response:
    """The one address that the provider knows."""
    facts = await before_login.held(request, ctx.resources, HELD, keep=True)
    answer = {name: request.query_params.get(name, "") for name in ("code", "state", "iss", "error")}
    if facts is None or not _same(facts["state"], answer["state"]):
        return go_back(request, "/login", _unknown())
    if answer["error"] or not answer["code"]:
        return go_back(request, STARTS[facts["why"]], Conflict("You did not complete the login.", mend="Try again."))
    if facts["why"] != "login":
        # A page for people who are logged in: its form needs the session's token.
        return redirect(request, f"/account/provider/return?{urlencode(answer)}")
    return _pass_on(request, "/login/provider/finish", answer)


@router.get("/account/provider/return")
async def come_back_signed_in(request: Request, ctx: UserCtx) -> Response:
    answer = {name: request.query_params.get(name, "") for name in ("code", "state", "iss")}
    return _pass_on(request, "/account/provider/finish", answer)


@router.post("/login/provider/finish")
@limit(TOKEN)
async def finish_login(request: Request, ctx: PublicCtx) -> Response:
    try:
        facts, person = await _arrive(request, ctx, ("login",))
        entrance = await actions.log_in_with_identity(ctx, person, browser_of(request, ctx, ""))
    except (Conflict, Forbidden) as error:
        return go_back(request, "/login", error)
    return await come_in(request, ctx, entrance, facts["next"])


@router.post("/account/provider/finish")
@limit(TOKEN)
async def finish_signed_in(request: Request, ctx: UserCtx) -> Response:
    why = "connect"
    try:
        facts, person = await _arrive(request, ctx, ("connect", "confirm"))
        why = facts["why"]
        if why == "confirm":
            token = await actions.confirm_with_provider(ctx, person)
            return with_session(ctx, redirect(request, way_back(facts["next"])), token)
        await actions.connect_identity(ctx, person)
    except (Conflict, Forbidden) as error:
        return go_back(request, STARTS[why], error)
    flash(request, "Connected. From now on you can log in with it.")
    return redirect(request, STARTS["connect"])


@router.post("/account/identities/{identity_id}/end")
@limit(STEP_UP)
async def disconnect_identity(request: Request, ctx: UserCtx, identity_id: UUID) -> Response:
    try:
        token = await actions.disconnect_identity(ctx, identity_id)
    except Conflict as error:
        return go_back(request, STARTS["connect"], error)
    flash(request, "Disconnected. Other devices are logged out.")
    return with_session(ctx, redirect(request, STARTS["connect"]), token)


async def _leave(request: Request, ctx: Context, why: str, back: str) -> Response:
    provider = ctx.resources.get(IdentityProvider)
    if not provider.enabled:
        return go_back(request, STARTS[why], Conflict("There is no other provider to log in with."))
    try:
        attempt, address = await provider.begin(again=why == "confirm")
    except LoginRefused as refusal:
        return go_back(request, STARTS[why], _refused(ctx, refusal))
    response = RedirectResponse(address, status_code=303)
    facts = {"why": why, "state": attempt.state, "nonce": attempt.nonce, "verifier": attempt.verifier, "next": back}
    await before_login.hold(ctx.resources, response, HELD, facts | {"user": str(ctx.actor.id or "")})
    return response


async def _arrive(request: Request, ctx: Context, reasons: tuple[str, ...]) -> tuple[dict[str, Any], ExternalPerson]:
    """What this browser set out with (used up by this), and who the provider says came back."""
    form = await Form.parse(ProviderAnswer, request)
    facts = await before_login.held(request, ctx.resources, HELD)
    mine = facts is not None and facts["why"] in reasons and facts["user"] == str(ctx.actor.id or "")
    if facts is None or not mine or not form.valid or not _same(facts["state"], form.data.state):
        ctx.note("accounts.log_in_with_identity", "refused", reason="no such attempt in this browser")
        raise _unknown()
    attempt = Attempt(facts["state"], facts["nonce"], facts["verifier"])
    try:
        provider = ctx.resources.get(IdentityProvider)
        return facts, await provider.finish(attempt, form.data.code, issuer=form.data.iss)
    except LoginRefused as refusal:
        raise _refused(ctx, refusal) from refusal


def _pass_on(request: Request, to: str, answer: dict[str, str]) -> Response:
    return render(
        request, "accounts/provider_return.html", headers={"Referrer-Policy": "no-referrer"}, to=to, answer=answer
    )


def _same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace"))


def _unknown() -> ServiceError:
    return Forbidden("This login was not begun in this browser, or too long ago.", mend="Try again.")


def _refused(ctx: Context, refusal: LoginRefused) -> ServiceError:
    ctx.note("accounts.log_in_with_identity", "refused", reason=str(refusal))
    return Forbidden("The provider's answer could not be trusted.", mend="Try again; if it stays, tell us.")
