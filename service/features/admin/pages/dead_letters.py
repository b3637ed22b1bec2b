"""One page for all that was given up on: how many of each kind, which, and trying them again."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Path, Request, Response

from service.core.context import Context
from service.core.errors import NotFound
from service.features.admin import actions, queries
from service.features.admin.pages._shared import HOME, REFUSALS, router
from service.features.admin.schemas import LettersAct, LettersSearch
from service.guardrails.contexts import StaffCtx
from service.guardrails.pagination import PageRequest, Position
from service.web.dead_letters import AT_ONCE, MOST_COUNTED, DeadLetters
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.templating import render

LETTERS = f"{HOME}/dead-letters"
DEAD_LETTERS = [
    DeadLetters(
        "jobs",
        "Jobs",
        "Work that failed at every attempt. Mend the cause, then run it again.",
        "WorkerStalled",
        queries.count_dead_jobs,
        queries.list_dead_jobs,
        actions.replay_jobs,
        actions.discard_jobs,
    )
]
Kind = Annotated[str, Path(max_length=40)]


@router.get("/staff/dead-letters")
async def show_kinds(request: Request, ctx: StaffCtx) -> Response:
    kinds = [(kind, await kind.count(ctx)) for kind in request.app.state.dead_letters]
    return render(request, "admin/dead_letters.html", kinds=kinds, most=MOST_COUNTED)


@router.get("/staff/dead-letters/{letters}")
async def list_letters(request: Request, ctx: StaffCtx, letters: Kind, page: PageRequest) -> Response:
    return await _page(request, ctx, _kind(request, letters), Form(LettersAct), page)


@router.post("/staff/dead-letters/{letters}")
async def act_on_letters(request: Request, ctx: StaffCtx, letters: Kind) -> Response:
    """Whatever the search in the address shows: all, those of one name, or the one with an id."""
    found = _kind(request, letters)
    form, search = await Form.parse(LettersAct, request), Form.from_query(LettersSearch, request)
    if form.valid and search.valid:
        act = found.replay if form.data.act == "replay" else found.discard
        if act is None:
            raise NotFound("These cannot be discarded.")
        try:
            count = await act(ctx, search.data.q, form.data.reason)
        except REFUSALS as error:
            form.refuse(error)
        else:
            more = " The rest is still here: press again." if count >= AT_ONCE else ""
            done = "tried again" if form.data.act == "replay" else "discarded"
            flash(request, f"{count:,} {'is' if count == 1 else 'are'} {done}.{more}")
            return redirect(request, f"{LETTERS}/{found.key}")
    return await _page(request, ctx, found, form, Position())


def _kind(request: Request, key: str) -> DeadLetters:
    kinds: list[DeadLetters] = request.app.state.dead_letters
    found = next((kind for kind in kinds if kind.key == key), None)
    if found is None:
        raise NotFound("There are no dead letters of this kind.")
    return found


async def _page(request: Request, ctx: Context, kind: DeadLetters, form: Form[LettersAct], page: Position) -> Response:
    search = Form.from_query(LettersSearch, request)
    letters = await kind.list(ctx, search.data.q, page) if search.valid else None
    sought = search.data.q if search.valid else ""
    asked = urlencode({"q": sought}) if sought else ""
    kinds = [(one.title, f"{LETTERS}/{one.key}") for one in request.app.state.dead_letters]
    shown: dict[str, Any] = {"letters": letters, "search": search, "sought": sought, "asked": asked, "kinds": kinds}
    return render(request, "admin/letters.html", kind=kind, form=form, here=f"{LETTERS}/{kind.key}", **shown)
