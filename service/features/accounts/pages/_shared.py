"""What the account pages share: one router, and what to do with a new session's cookie."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator

from service.core.context import Context
from service.core.errors import ServiceError
from service.features.accounts.actions import Browser, Entrance
from service.features.accounts.schemas import LONGEST_WAY_BACK
from service.guardrails import before_login, sessions
from service.web.flash import flash
from service.web.responses import HOME, redirect, safe_path

router = APIRouter()

ENTRANCES = ("/login", "/logout", "/sign-up", "/confirm")
CODE = "second-factor"
"""The purpose under which a login waits for its second factor."""

# Too long to be kept in Redis: forgotten, because nobody should be unable to log in for it.
Back = Annotated[str, Query(alias="next"), AfterValidator(lambda way: way if len(way) <= LONGEST_WAY_BACK else "")]


def way_back(wanted: str) -> str:
    """Where to go after a proof: a path of this site, and not one that asks for the same proof again."""
    path = safe_path(wanted, default=HOME)
    return HOME if path.startswith(ENTRANCES) else path


def browser_of(request: Request, ctx: Context, email: str) -> Browser:
    return Browser(
        device=before_login.known_device(request, ctx.settings, email) if email else None,
        old_session=sessions.cookie_of(request, ctx.settings),
    )


async def come_in(request: Request, ctx: Context, entrance: Entrance, wanted: str) -> Response:
    """On with the login: to the second factor where there is one, else in."""
    if entrance.token is None:
        response = redirect(request, "/login/code")
        facts: dict[str, Any] = {
            "user": entrance.user_id.hex,
            "epoch": entrance.epoch,
            "methods": entrance.methods,
            "remember": entrance.remember,
            "next": wanted,
        }
        await before_login.hold(ctx.resources, response, CODE, facts)
        return response
    response = redirect(request, way_back(wanted))
    sessions.set_cookie(response, ctx.settings, entrance.token, remembered=entrance.remember)
    before_login.remember_device(response, ctx.settings, entrance.email)
    return response


def waiting(facts: dict[str, Any]) -> Entrance:
    """A login that was held before its second factor."""
    user, methods = UUID(facts["user"]), tuple(facts["methods"])
    return Entrance(user, "", int(facts["epoch"]), methods, bool(facts["remember"]))


def with_session(ctx: Context, response: Response, token: str) -> Response:
    """The same session under its new id."""
    sessions.set_cookie(response, ctx.settings, token, remembered=ctx.login is not None and ctx.login.remembered)
    return response


def go_back(request: Request, to: str, error: ServiceError) -> Response:
    """For buttons without a form: the reason above the page they stand on."""
    flash(request, f"{error.detail} {error.mend}".strip(), "danger")
    return redirect(request, to)
