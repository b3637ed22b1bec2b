"""What the plan pages share: a form's wish becomes an operation, the call to Stripe comes after the commit, and the
person sees what became of it. Cards are typed on Stripe's pages alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response

from service.core.context import Context
from service.core.crypto import new_token
from service.core.errors import BadRequest, Conflict, Invalid, NotFound, TooManyRequests
from service.core.logging import get_logger
from service.core.schemas import Input
from service.features.billing import actions
from service.features.billing.flows.operations import Outcome, perform
from service.features.billing.models import Kind, Operation, Status
from service.features.billing.schemas import InvoiceRead
from service.guardrails.actions import allow, may
from service.guardrails.browser import content_policy
from service.guardrails.pagination import Page, Position
from service.guardrails.rate_limits import PLAN_CHANGE, spend
from service.integrations.stripe.addresses import stripe_origins
from service.integrations.stripe.client import StripeApi
from service.web.flash import Kind as FlashKind
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import After, redirect, to_stripe
from service.web.templating import render

router = APIRouter()
log = get_logger()

PLAN = "/billing"
WHILE_ONE_WAITS = 20.0
"""Seconds before a person is shown that a change is still on its way, instead of the server's time-out."""
RECENT = Position(limit=10)
PAUSED = "Billing changes are paused: Stripe does not answer. Everything else works."
OURS = ("misconfigured", "price_missing", "resource_missing", "no_customer", "no_subscription")
AWAY = ("connection", "deadline", "garbled", "server_error", "limited", "conflict", "open", "crowded", "customer")
M = TypeVar("M", bound=Input)


class OutOfDate(BadRequest):
    default_mend = "Open the plan page anew and repeat it there."
    way_out = ("Plan and billing", PLAN)


class TooManyChanges(TooManyRequests):
    code, title = "too-many-plan-changes", "That was a lot of changes"
    meaning = "The plan was changed more often than Stripe takes changes of one subscription."
    way_out = ("Plan and billing", PLAN)


async def read(request: Request, ctx: Context, verb: Callable[..., Any], model: type[M]) -> M:
    """What the form brings; it has nothing to type, so a wrong value is an old page or somebody who plays."""
    allow(ctx, verb)
    form = await Form.parse(model, request)
    if not form.valid:
        raise OutOfDate("The form is out of date.")
    return form.data


def insist_on_sale(ctx: Context) -> StripeApi:
    """Raises NotFound where billing is off."""
    api = ctx.resources.get(StripeApi)
    if not api.enabled:
        raise NotFound("Nothing is sold here.", mend="Everything else works as always.")
    return api


async def begin(request: Request, ctx: Context, verb: Callable[..., Awaitable[Operation]], *arguments: Any) -> Response:
    """Write the wish down; after the commit make the call, and show what became of it."""
    if insist_on_sale(ctx).away:
        return go_back(request, PAUSED, "warning")
    try:
        operation = await verb(ctx, *arguments)
    except (Conflict, NotFound, Invalid) as error:
        return go_back(request, f"{error.detail} {error.mend}")
    if operation.kind is Kind.CHANGE_PLAN and operation.first_sent_at is None:
        await _count(ctx, operation)
    resources = ctx.resources
    organization_id, identifier = operation.organization_id, operation.id

    async def work() -> Response:
        try:
            async with asyncio.timeout(WHILE_ONE_WAITS):
                outcome = await perform(resources, organization_id, identifier)
        except TimeoutError:
            outcome = Outcome(Status.UNKNOWN)
        if outcome.status is Status.FAILED:
            return go_back(request, sentence(outcome.error_code))
        if outcome.url:
            return go_to_stripe(request, ctx, outcome.url)
        return redirect(request, f"/billing/operations/{identifier}")

    return After(work)


def go_to_stripe(request: Request, ctx: Context, url: str) -> Response:
    try:
        return to_stripe(request, ctx.settings, url)
    except ValueError:
        log.error("Stripe's page is not at an address of Stripe's")
        return go_back(request, sentence("misconfigured"))


async def _count(ctx: Context, operation: Operation) -> None:
    """Raises TooManyChanges, which also takes the operation back; the same form sent twice counts once."""
    try:
        await spend(ctx.resources, PLAN_CHANGE, subject=str(operation.organization_id))
    except TooManyRequests as error:
        raise TooManyChanges(
            "The plan was changed six times within an hour, and each change makes an invoice.",
            mend="Your plan stays as it is now. You can change it again a little later.",
            retry_after=error.retry_after,
        ) from error


def show(
    request: Request, ctx: Context, template: str, headers: dict[str, str] | None = None, /, **values: Any
) -> Response:
    """A page with forms that end at Stripe; each form has a nonce of its own (`intent`)."""
    policy = content_policy(ctx.settings, *stripe_origins(ctx.settings))
    api = ctx.resources.get(StripeApi)
    away = api.away
    return render(
        request,
        f"billing/{template}.html",
        headers={"Content-Security-Policy": policy, **(headers or {})},
        paused=PAUSED if away else "",
        sold=api.enabled,
        may_change=may(ctx, actions.plan_change) and api.enabled and not away,
        intent=new_token,
        **values,
    )


def owed(invoices: Page[InvoiceRead] | None) -> dict[str, Any]:
    """The last invoices, and the one that somebody has to do something about."""
    items = invoices.items if invoices else []
    return {"invoices": items, "due": next((one for one in items if one.is_due), None)}


def sentence(code: str | None) -> str:
    """A failure in plain words, with the way out."""
    if code == "open":
        return PAUSED
    if code == "paid_already":
        return "You already have a paid plan, as this page shows now. Nothing was charged twice."
    if code in AWAY:
        return "Stripe does not answer right now. Nothing was changed and nothing charged; try again in a few minutes."
    if code in OURS:
        return "That is not possible right now, and we have been told. Nothing was changed and nothing charged."
    return "Stripe did not accept that, so your plan stays as it is. Check your card on Stripe's page, then try again."


def go_back(request: Request, text: str, kind: FlashKind = "danger") -> Response:
    flash(request, text, kind)
    return redirect(request, PLAN)
