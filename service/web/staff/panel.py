"""Makes the panel out of what the features declare: one router, and their places on the home."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from service.core.context import Context
from service.core.database import UnitOfWork
from service.core.errors import NOTHING_HERE, Conflict, Forbidden, Invalid, NotFound, StepUpRequired
from service.core.schemas import Input
from service.guardrails import staff_reasons
from service.guardrails.contexts import StaffCtx, transaction
from service.guardrails.pagination import BATCH, PageRequest, Position
from service.guardrails.rate_limits import EXPORT, limit
from service.guardrails.subjects import address_hash
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import redirect
from service.web.sheet import BOM, cut, harmless, lines
from service.web.staff.controls import controls_of
from service.web.staff.declared import HIDDEN, Act, Declared, Detail, Listing, always, identify
from service.web.staff_home import StaffPage, why
from service.web.templating import render

MOST_EXPORTED = 100_000
GO_BACK = "Go back and reload: what can be done with it now stands there."
AT_ONCE = 200
"""Rows that are written as text before others get their turn."""


class Panel:
    """The declarations of all features in order, and the routes made of them."""

    def __init__(self, declared: Iterable[Declared]) -> None:
        everything = list(declared)
        self.listings = [one for one in everything if isinstance(one, Listing)]
        self.details = [one for one in everything if isinstance(one, Detail)]
        self.acts = [one for one in everything if isinstance(one, Act)]
        self.pages = [StaffPage(one.title, one.path, one.lead, one.order) for one in self.listings if one.on_home]
        self.router = APIRouter()
        # What has a name of its own before what takes any id.
        for listing in self.listings:
            self._add_listing(listing)
        for act in sorted(self.acts, key=lambda act: not act.whole):
            self._add_act(act)
        for detail in self.details:
            self._add_detail(detail)

    def acts_of(self, path: str, *, whole: bool) -> list[Act]:
        return [act for act in self.acts if act.of == path and act.whole is whole]

    def _item(self, path: str) -> str:
        """What the id is called; raises KeyError for what belongs to a list that nobody declares."""
        return {listing.path: listing.item for listing in self.listings}[path]

    def _has_detail(self, path: str) -> bool:
        return any(detail.of == path for detail in self.details)

    def _add_listing(self, listing: Listing) -> None:
        async def show(request: Request, ctx: StaffCtx, page: PageRequest) -> Response:
            form = Form.from_query(listing.wanted, request)
            reason = await staff_reasons.find(ctx, listing.path) if listing.is_personal else ""
            barred = form.valid and not reason and listing.tells_whose(form.data)
            found = await listing.read(ctx, form.data, page) if form.valid and not barred else None
            if reason:
                staff_reasons.note_look(ctx, listing.path, reason, rows=len(found.items) if found else 0)
            return render(
                request, "staff/listing.html", listing=listing, found=found, form=form, hidden_word=HIDDEN,
                controls=controls_of(listing.wanted), asked=_asked(form), reason=reason, barred=barred,
                acts=self.acts_of(listing.path, whole=False), whole=self.acts_of(listing.path, whole=True),
                why=why(listing.path, _asked(form)), has_detail=self._has_detail(listing.path),
            )  # fmt: skip

        @limit(EXPORT)
        async def export(request: Request, ctx: StaffCtx) -> Response:
            form = Form.from_query(listing.wanted, request)
            if not form.valid:
                return redirect(request, f"{listing.path}?{request.url.query}")
            if listing.is_personal and not await staff_reasons.given(ctx, listing.path):
                flash(request, "Say first why you need these personal data; then export them.", "warning")
                return redirect(request, why(listing.path, _asked(form)))
            ctx.note("staff.export", "done", listing=listing.path, filters=_filters(form.data))
            name = listing.path.removeprefix("/staff/").replace("/", "-")
            headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
            body = _rows(ctx, listing, form.data)
            return StreamingResponse(body, media_type="text/csv; charset=utf-8", headers=headers)

        self._route(listing.path, show, listing)
        self._route(f"{listing.path}/csv", export, listing)

    def _add_detail(self, detail: Detail) -> None:
        async def show(request: Request, ctx: StaffCtx) -> Response:
            key = identify(detail.key, request)
            view = await detail.query(ctx, key)
            subject = f"{detail.of}/{key}"
            personal, whose = detail.personal(view), detail.account(view) if detail.account else None
            reason = await staff_reasons.given(ctx, subject, account=whose) if personal else ""
            acts = [act for act in self.acts_of(detail.of, whole=False) if act.offered and act.applies(view)]
            return render(
                request, detail.template, detail=detail, view=view, reason=reason, acts=acts, row_id=key,
                why=why(subject, ""), title=detail.title, personal=personal,
            )  # fmt: skip

        self._route(f"{detail.of}/{{{self._item(detail.of)}}}", show, detail)

    def _add_act(self, act: Act) -> None:
        async def ask(request: Request, ctx: StaffCtx) -> Response:
            return self._act_page(request, act, Form(act.form, dict(request.query_params)))

        async def do(request: Request, ctx: StaffCtx) -> Response:
            form = await Form.parse(act.form, request)
            if not form.valid:
                return self._act_page(request, act, form)
            given = form.data.model_dump()
            try:
                whose = () if act.whole else (identify(act.key, request),)
                fits = not whose or await self._applies(ctx, act, *whose)
                result = await act.verb(ctx, *whose, **given)
                if not fits:
                    # The verb's own words would say more. What it lets through is undone: nothing has left yet.
                    await ctx.work.abandon()
                    raise Conflict(f"“{act.title}” is not for this one as it is now.", mend=GO_BACK)
            except StepUpRequired:
                raise
            except (Conflict, Forbidden, Invalid, NotFound) as error:
                form.refuse(error)
                return self._act_page(request, act, form)
            if act.answer is not None:
                made: Response = await act.answer(request, ctx, result)
                return made
            flash(request, act.done if isinstance(act.done, str) else act.done(result))
            return redirect(request, self._back(act, None if act.whole else identify(act.key, request)))

        path = act.path(f"{{{self._item(act.of)}}}")
        self._route(path, ask, act)
        self._route(path, do, act, "POST")

    async def _applies(self, ctx: Context, act: Act, row_id: Any) -> bool:
        """Asked again when it is done: the page that offered it may be old, or was never opened."""
        if act.applies is always:
            return True
        # What looks at something may go on acting for its organization, and leave in memory what it has read.
        tenant, user, organization_id, role = ctx.work.tenant, ctx.work.user, ctx.organization_id, ctx.role
        try:
            fits = act.applies(await self._one(ctx, act.of, row_id))
        except NotFound:
            fits = False
        await ctx.work.act_for(tenant=tenant, user=user)
        ctx.organization_id, ctx.role = organization_id, role
        ctx.db.expunge_all()
        return fits

    async def _one(self, ctx: Context, path: str, row_id: Any) -> Any:
        for detail in self.details:
            if detail.of == path:
                return await detail.query(ctx, row_id)
        listing = next(one for one in self.listings if one.path == path)
        found = await listing.read(ctx, listing.wanted(**{listing.item: row_id}), Position(1))
        if not found.items:
            raise NotFound(NOTHING_HERE)
        return found.items[0]

    def _act_page(self, request: Request, act: Act, form: Form[Any]) -> Response:
        row_id = None if act.whole else identify(act.key, request)
        to, back = act.path(row_id), self._back(act, row_id)
        return render(
            request,
            "staff/act.html",
            act=act,
            form=form,
            to=to,
            back=back,
            row_id=row_id,
            controls=controls_of(act.form),
        )

    def _back(self, act: Act, row_id: Any) -> str:
        return act.of if act.whole or not self._has_detail(act.of) else f"{act.of}/{row_id}"

    def _route(self, path: str, endpoint: Any, made_from: Declared, method: str = "GET") -> None:
        endpoint.declared = made_from
        self.router.add_api_route(path, endpoint, methods=[method], response_model=None)


def _asked(form: Form[Any]) -> str:
    return urlencode(form.data.model_dump(mode="json", exclude_defaults=True)) if form.valid else ""


def _filters(wanted: Input) -> dict[str, Any]:
    """For the log, which learns no address and no name: what somebody typed stands there as its hash."""
    typed = {control.name for control in controls_of(type(wanted)) if control.type == "text"}
    return {
        name: address_hash(value).hex()[:32] if name in typed and isinstance(value, str) else value
        for name, value in wanted.model_dump(exclude_defaults=True).items()
    }


async def _rows(ctx: Context, listing: Listing, wanted: Input) -> AsyncIterator[str]:
    """Each batch in a transaction of its own: memory is bounded, and a slow reader holds no connection.

    That the list is taken away was noted before the answer began; how much of it there was, before the last rows leave.
    """
    yield BOM + lines([[column.title for column in listing.columns]])
    resources, cursor, taken = ctx.resources, None, 0
    for left in reversed(range(MOST_EXPORTED // BATCH)):
        async with resources.database.connection() as connection:
            work = UnitOfWork(connection)
            work.staff = True
            within = Context(work, resources, ctx.actor, ctx.caller, login=ctx.login, emergency=ctx.emergency)
            async with transaction(within, tenant=None, user=ctx.user_id, read_only=True):
                page = await listing.read(within, wanted, Position(BATCH, cursor))
                cursor, taken = page.next_cursor, taken + len(page.items)
                if cursor is None or not left:
                    within.note("staff.export_rows", "done", listing=listing.path, rows=taken)
        for first in range(0, len(page.items), AT_ONCE):
            some = page.items[first : first + AT_ONCE]
            yield lines([[harmless(column.text(row)) for column in listing.columns] for row in some])
        if cursor is None:
            return
    yield lines([[cut(MOST_EXPORTED)]])
