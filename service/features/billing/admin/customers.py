"""The summary, and one customer beside Stripe with what can be done about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Request, Response
from pydantic import Field, StringConstraints

from service.core.context import Context
from service.core.errors import NotFound
from service.core.ids import new_id
from service.core.schemas import Input, Line
from service.features.billing import actions, queries
from service.features.billing.admin._shared import CUSTOMERS, HOME, REFUSALS, TABS, Why, router
from service.features.billing.flows.diff import diff
from service.features.billing.flows.operations import ensure_customer, living_customer, perform
from service.features.billing.flows.resync import resync_customers
from service.features.billing.flows.synchronize import synchronize_now
from service.features.billing.models import BillingCustomer, Operation, Status
from service.features.billing.models.mirror import LIVE
from service.features.billing.models.plans import PLANS
from service.features.billing.schemas import Intent, Word
from service.guardrails.contexts import StaffCtx
from service.integrations.stripe.client import StripeApi
from service.integrations.stripe.errors import StripeFailed
from service.web.flash import Kind, flash
from service.web.formats import money
from service.web.forms import Form
from service.web.responses import After, redirect
from service.web.templating import render

TOLD: dict[Status, tuple[str, Kind]] = {
    Status.SUCCEEDED: ("Done at Stripe.", "success"),
    Status.FAILED: ("Stripe did not do it: {code}.", "danger"),
    Status.UNKNOWN: ("Stripe gave no answer; the worker finds out what became of it.", "warning"),
}


class Search(Input):
    q: Annotated[Line, StringConstraints(max_length=255)] = Field(
        "", title="Find a customer", description="Our id or Stripe's, the organization's id, or a part of its name."
    )


class CustomerAct(Why, Intent):
    act: Literal["resync", "cancel"]
    subscription: Literal[""] | Word = Field("", title="Which shall end")


class Override(Why):
    plan: Word = Field(title="Plan", description="Free only ends what was given before.")
    ends_on: date = Field(title="Last day", ge=date(2020, 1, 1), le=date(2099, 12, 31))


class Refund(Why, Intent):
    charge: Annotated[str, StringConstraints(pattern=r"^(ch|py)_\w{1,100}$")] = Field(
        title="Charge", description="One of this customer's, as in the ledger below."
    )
    amount: int = Field(title="Amount", description="In the smallest unit: 1200 is €12.00.", ge=1, lt=2**40)


@router.get("/staff/billing")
async def show_overview(request: Request, ctx: StaffCtx) -> Response:
    return await _overview(request, ctx, Form(Why))


@router.post("/staff/billing")
async def resync_all(request: Request, ctx: StaffCtx) -> Response:
    form = await Form.parse(Why, request)
    if not form.valid:
        return await _overview(request, ctx, form)
    await actions.resync_all(ctx, form.data.reason)

    async def mark() -> Response:
        flash(request, f"{await resync_customers(ctx.resources):,} customers are read again, one after the other.")
        return redirect(request, HOME)

    return After(mark)


@router.post("/staff/billing/organizations/{organization_id}")
async def open_customer(request: Request, ctx: StaffCtx, organization_id: UUID) -> Response:
    await actions.open_customer(ctx, organization_id)

    async def make() -> Response:
        try:
            await ensure_customer(ctx.resources, organization_id)
        except StripeFailed as error:
            flash(request, f"{error}. Try again in a few minutes.", "danger")
        customer = await living_customer(ctx.resources, organization_id)
        return redirect(request, f"{CUSTOMERS}/{customer}" if customer else HOME)

    return After(make)


@router.get("/staff/billing/customers/{customer_id}")
async def show_customer(request: Request, ctx: StaffCtx, customer_id: UUID) -> Response:
    return await _customer(request, ctx, customer_id)


@router.post("/staff/billing/customers/{customer_id}")
async def act_on_customer(request: Request, ctx: StaffCtx, customer_id: UUID) -> Response:
    """Read it again, or end its subscription."""
    form = await Form.parse(CustomerAct, request)
    if form.valid and form.data.act == "resync":
        return _read_now(request, ctx, await actions.resync(ctx, customer_id, form.data.reason))
    if form.valid:
        customer, given = await queries.visit(ctx, customer_id), form.data
        return await _carry_out(
            request, ctx, customer, form,
            lambda: actions.plan_cancel_now(ctx, given.subscription, given.reason, given.intent),
        )  # fmt: skip
    return await _customer(request, ctx, customer_id, act=form)


@router.post("/staff/billing/customers/{customer_id}/override")
async def override_plan(request: Request, ctx: StaffCtx, customer_id: UUID) -> Response:
    form = await Form.parse(Override, request, prefix="override")
    if form.valid:
        until = datetime.combine(form.data.ends_on, time.max, UTC)
        try:
            await actions.override_plan(ctx, customer_id, form.data.plan, until, form.data.reason)
        except REFUSALS as error:
            form.refuse(error)
        else:
            return _read_now(request, ctx, await queries.visit(ctx, customer_id))
    return await _customer(request, ctx, customer_id, override=form)


@router.post("/staff/billing/customers/{customer_id}/refund")
async def refund(request: Request, ctx: StaffCtx, customer_id: UUID) -> Response:
    form = await Form.parse(Refund, request, prefix="refund")
    if form.valid:
        customer, given = await queries.visit(ctx, customer_id), form.data
        if await queries.is_own_charge(ctx, given.charge):
            return await _carry_out(
                request, ctx, customer, form,
                lambda: actions.plan_refund(ctx, given.charge, given.amount, given.reason, given.intent),
            )  # fmt: skip
        form.add_error("charge", "This customer paid no such charge.")
    return await _customer(request, ctx, customer_id, refund=form)


@router.get("/staff/billing/customers/{customer_id}/diff")
async def compare(request: Request, ctx: StaffCtx, customer_id: UUID) -> Response:
    customer = await queries.visit(ctx, customer_id)

    async def ask() -> Response:
        found, trouble = None, ""
        try:
            found = await diff(ctx.resources, customer)
        except StripeFailed as error:
            trouble = f"{error}."
        return render(request, "billing/staff/diff.html", customer=customer, found=found, trouble=trouble)

    return After(ask)


def _read_now(request: Request, ctx: Context, customer: BillingCustomer) -> Response:
    """Once this has committed: what was asked for shows at once, or as soon as Stripe answers."""

    async def read() -> Response:
        done = await synchronize_now(ctx.resources, customer.id)
        text = "Read again just now." if done else "Stripe did not answer in time; the worker goes on trying."
        flash(request, text, "success" if done else "warning")
        return redirect(request, f"{CUSTOMERS}/{customer.id}")

    return After(read)


async def _carry_out(
    request: Request, ctx: Context, customer: BillingCustomer, form: Form[Any], plan: Callable[[], Awaitable[Operation]]
) -> Response:
    try:
        operation = await plan()
    except (*REFUSALS, NotFound) as error:
        form.refuse(error)
        return await _customer(request, ctx, customer.id, **{"act" if form.prefix == "f" else form.prefix: form})

    async def send() -> Response:
        outcome = await perform(ctx.resources, customer.organization_id, operation.id)
        text, kind = TOLD.get(outcome.status, ("It is on its way.", "info"))
        flash(request, text.format(code=outcome.error_code), kind)
        return redirect(request, f"{CUSTOMERS}/{customer.id}")

    return After(send)


async def _overview(request: Request, ctx: Context, form: Form[Why]) -> Response:
    search, api = Form.from_query(Search, request), ctx.resources.get(StripeApi)
    wanted = search.data.q if search.valid else ""
    found = await queries.find_customers(ctx, wanted) if wanted else None
    overview = await queries.get_overview(ctx)
    return render(
        request,
        "billing/staff/overview.html",
        overview=overview,
        found=found,
        api=api,
        search=search,
        form=form,
        tabs=TABS,
        here=HOME,
    )


async def _customer(request: Request, ctx: Context, customer_id: UUID, **given: Form[Any]) -> Response:
    bench, intent = await queries.get_workbench(ctx, customer_id), {"intent": new_id().hex}
    live = [one for one in bench.lists["billing_subscriptions"] if one.status in LIVE]
    plans = [(plan.key, plan.name) for plan in reversed(PLANS)]
    act = given.get("act") or Form(CustomerAct, intent)
    override = given.get("override") or Form(Override, prefix="override")
    refund = given.get("refund") or Form(Refund, intent, prefix="refund")
    values: dict[str, Any] = {"bench": bench, "live": live, "plans": plans, "money": money}
    return render(request, "billing/staff/customer.html", act=act, override=override, refund=refund, **values)
