"""Mail seen from its receiver: having it come again, and stopping it without a login."""

from __future__ import annotations

from fastapi import Request, Response
from starlette.routing import Route

from service.core.context import ANONYMOUS, Context
from service.core.errors import BadRequest, Conflict
from service.features.notifications import actions
from service.features.notifications.pages._shared import router
from service.features.notifications.schemas import read_unsubscription
from service.guardrails.contexts import PublicCtx, UserCtx, signed
from service.guardrails.rate_limits import MAIL, TOKEN, UNSIGNED, limit, spend
from service.web.flash import flash
from service.web.responses import redirect
from service.web.templating import render


@router.post("/account/notifications/mail/again")
@limit(MAIL)
async def write_again(request: Request, ctx: UserCtx) -> Response:
    try:
        await actions.write_again(ctx)
    except Conflict as error:
        flash(request, f"{error.detail} {error.mend}", "danger")
    else:
        flash(request, "We write to you again. A first mail is on its way; if it comes back, you will see that here.")
    return redirect(request, "/account/notifications")


@router.get("/unsubscribe/{wish}")
@limit(TOKEN)
async def show_unsubscription(request: Request, ctx: PublicCtx, wish: str) -> Response:
    """A page with a button: programs that look into every link of a mail must not unsubscribe anybody."""
    return render(request, "notifications/unsubscribe.html", wish=read_unsubscription(wish), link=wish, done=False)


async def unsubscribe(request: Request) -> Response:
    """The button, and the one click of a mailbox (RFC 8058), which brings neither cookie nor token of ours."""
    message, link = await signed(request), str(request.path_params["wish"])
    try:
        wish = read_unsubscription(link)
    except BadRequest:
        await spend(message.resources, UNSIGNED, subject=message.caller.address)
        raise
    async with message.resources.database.unit_of_work(tenant=None) as work:
        await actions.unsubscribe(Context(work, message.resources, ANONYMOUS, message.caller), link)
    return render(request, "notifications/unsubscribe.html", wish=wish, link=link, done=True)


one_click = Route("/unsubscribe/{wish}", unsubscribe, methods=["POST"])
