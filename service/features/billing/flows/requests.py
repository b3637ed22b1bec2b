"""What each kind of operation says to Stripe, worked out once and then frozen; and how to tell whether it happened.

Upgrades go through `pending_if_incomplete`: a card that is declined leaves the old plan as it was, instead of a new
plan that nobody has paid for (https://docs.stripe.com/billing/subscriptions/pending-updates).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select

from service.core.context import Resources
from service.core.database import UnitOfWork
from service.core.settings import Settings
from service.features.billing.models import BillingCustomer, Kind, Operation, Subscription
from service.features.billing.models.customer import living_in
from service.features.billing.models.derive import plan_of_item
from service.features.billing.models.mirror import LIVE, subscriptions_in_mode
from service.features.billing.models.operation import PAGES
from service.features.billing.models.plans import BY_KEY
from service.features.organizations.models import Membership, Organization
from service.integrations.stripe.client import StripeApi
from service.integrations.stripe.errors import StripeAbsent, StripeRefused
from service.integrations.stripe.readings import subscription_columns

CLOCKS_DIFFER = timedelta(hours=1)
"""By so much at most: Stripe's clock says when a thing was made, ours when it was asked for."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    params: dict[str, Any]


class Impossible(Exception):
    """The wish no longer fits the state of things; the text is a code for the page."""


async def price_of(api: StripeApi, plan_key: str) -> str:
    """The id of a plan's price, by its lookup key: ids differ between accounts and modes."""
    asked = {"lookup_keys": [BY_KEY[plan_key].lookup_key], "active": True, "limit": 1}
    found = (await api.patiently("get", "/v1/prices", asked)).get("data") or []
    if not found:
        raise StripeRefused(404, "price_missing", param="lookup_key")
    return str(found[0]["id"])


async def build(resources: Resources, work: UnitOfWork, operation: Operation, price: str) -> Request:
    """The exact request, from the wish and from our copy as it is now. Raises Impossible."""
    wish, base = operation.wish, resources.settings.base_url.rstrip("/")
    ours = {"organization_id": str(operation.organization_id), "operation_id": str(operation.id)}
    match operation.kind:
        case Kind.CUSTOMER:
            name = await work.session.scalar(select(Organization.name).where(Organization.id == work.tenant))
            return Request("post", "/v1/customers", {"name": name, "metadata": ours})
        case Kind.CHECKOUT:
            return Request(
                "post", "/v1/checkout/sessions", await _checkout(work, operation, price, resources.settings, ours)
            )
        case Kind.PORTAL:
            params = {
                "customer": await _customer(work, resources.settings.stripe_livemode),
                "return_url": f"{base}/billing/return",
            }
            return Request("post", "/v1/billing_portal/sessions", params)
        case Kind.REFUND:
            given = {"charge": wish["charge"], "amount": wish["amount"], "metadata": ours}
            return Request("post", "/v1/refunds", given)
    path = f"/v1/subscriptions/{wish['subscription']}"
    match operation.kind:
        case Kind.CHANGE_PLAN:
            item = {**await item_of(work, wish["subscription"]), "price": price}
            change = {"items": [item], "proration_behavior": "always_invoice", "proration_date": wish["proration_date"]}
            return Request("post", path, {**change, "payment_behavior": "pending_if_incomplete"})
        case Kind.SEATS:
            item = await item_of(work, wish["subscription"])
            return Request("post", path, {"items": [item], "proration_behavior": "create_prorations"})
        case Kind.CANCEL:
            return Request("post", path, {"cancel_at_period_end": True})
        case Kind.RESUME:
            # One of the two was set, and only that one may be cleared: the portal sets the date, we set the flag.
            return Request("post", path, {"cancel_at_period_end": False} if wish["flag"] else {"cancel_at": ""})
        case _:
            return Request("delete", path, {})


async def happened(api: StripeApi, operation: Operation) -> str | None:
    """What Stripe's state already has of what was wished, by its id: asked when repeating the same bytes tells nothing
    any more. None: nothing."""
    wish, mark = operation.wish, str(operation.id)
    if operation.kind in PAGES:
        return None  # a page that nobody was sent to
    if operation.kind in (Kind.CUSTOMER, Kind.REFUND):
        sent = operation.first_sent_at or operation.created_at
        path = "/v1/customers" if operation.kind is Kind.CUSTOMER else "/v1/refunds"
        asked = {"created": {"gte": int((sent - CLOCKS_DIFFER).timestamp())}}
        found = [one async for one in api.every(path, asked, most=1_000)]
        return next((one["id"] for one in found if (one.get("metadata") or {}).get("operation_id") == mark), None)
    try:
        thing = await api.patiently("get", f"/v1/subscriptions/{wish['subscription']}")
    except StripeAbsent:
        return wish["subscription"] if operation.kind is Kind.CANCEL_NOW else None
    now, wanted = subscription_columns(thing), {item["id"]: item for item in (operation.params or {}).get("items", ())}
    ends = bool(now["cancel_at"] or now["cancel_at_period_end"])
    match operation.kind:
        case Kind.CANCEL_NOW:
            is_so = now["status"] == "canceled"
        case Kind.CANCEL | Kind.RESUME:
            is_so = ends is (operation.kind is Kind.CANCEL)
        case _:
            # Done, or done as far as Stripe can: it waits for the payment (`pending_if_incomplete`).
            waiting = subscription_columns({"items": {"data": (now["pending_update"] or {}).get("subscription_items")}})
            is_so = any(
                bool(pairs := [(item, wanted[item["id"]]) for item in items if item["id"] in wanted])
                and all(
                    item["quantity"] == asked["quantity"] and asked.get("price", item["price"]) == item["price"]
                    for item, asked in pairs
                )
                for items in (now["items"], waiting["items"])
            )
    return wish["subscription"] if is_so else None


async def _checkout(
    work: UnitOfWork, operation: Operation, price: str, settings: Settings, ours: dict[str, str]
) -> dict[str, Any]:
    base, livemode = settings.base_url.rstrip("/"), settings.stripe_livemode
    plan = BY_KEY[operation.wish["plan"]]
    had = list((await work.session.execute(subscriptions_in_mode(work.tenant, livemode))).scalars())
    if any(one.status in LIVE for one in had):
        raise Impossible("paid_already")
    details: dict[str, Any] = {"metadata": ours, "billing_mode": {"type": "flexible"}}
    if plan.trial_days and not had:
        details["trial_period_days"] = plan.trial_days
    return {
        "mode": "subscription",
        "customer": await _customer(work, livemode),
        "client_reference_id": ours["organization_id"],
        "line_items": [{"price": price, "quantity": await _seats(work)}],
        "subscription_data": details,
        "metadata": ours,
        "success_url": f"{base}/billing/success?session_id={{CHECKOUT_SESSION_ID}}",
        "cancel_url": f"{base}/billing",
    }


async def _customer(work: UnitOfWork, livemode: bool) -> str:
    living = select(BillingCustomer.stripe_customer_id).where(*living_in(work.tenant, livemode))
    if (found := await work.session.scalar(living)) is None:
        raise Impossible("no_customer")
    return found


async def item_of(work: UnitOfWork, subscription: str) -> dict[str, Any]:
    """The item that carries our plan, with the seats it shall have; replaced in place, so that its id stays."""
    row = await work.session.scalar(select(Subscription).where(Subscription.stripe_id == subscription))
    items = [item for item in row.items if item["lookup_key"]] if row else []
    items.sort(key=lambda item: plan_of_item(item) is None)  # an add-on may have a lookup key, too
    if not items:
        raise Impossible("no_subscription")
    return {"id": items[0]["id"], "quantity": await _seats(work)}


async def _seats(work: UnitOfWork) -> int:
    """Absolute, counted under the organization's lock: of "one more" and "one less" at once neither gets lost."""
    await work.session.execute(select(Organization.id).with_for_update())
    return max(1, await work.session.scalar(select(func.count()).select_from(Membership)) or 0)
