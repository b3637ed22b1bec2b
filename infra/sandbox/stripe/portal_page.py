"""The customer portal's page: plan and quantity with a preview, cancel and take back, another card, invoices."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from infra.sandbox.pages import page
from infra.sandbox.stripe import portal
from infra.sandbox.stripe.pages import Form, locked, origins
from infra.sandbox.stripe.preview import preview
from infra.sandbox.stripe.store import Account, Obj, StripeError, missing
from infra.sandbox.stripe.subscription_shape import ENDED

MOST_SEATS = 10_000
Step = Callable[[Account, Obj, Form], None]


def portal_routes(account: Account) -> list[Route]:
    """The session in the path says whose portal it is; anybody who has it is that customer, as at Stripe."""
    path = "/portal/{id}"
    return [
        Route(path, locked(account, _show)),
        Route(f"{path}/preview", locked(account, _preview), methods=["POST"]),
        Route(f"{path}/change", locked(account, _doing(_change)), methods=["POST"]),
        Route(f"{path}/cancel", locked(account, _doing(_cancel)), methods=["POST"]),
        Route(f"{path}/keep", locked(account, _doing(_keep)), methods=["POST"]),
        Route(f"{path}/card", locked(account, _doing(_card)), methods=["POST"]),
    ]


def _show(account: Account, request: Request, form: Form, *, problem: str = "") -> Response:
    session = _session(account, request)
    flow = session["flow"]
    if flow and flow["type"] == "subscription_update_confirm" and not problem:
        wanted = flow["subscription_update_confirm"]
        item = wanted["items"][0]
        asked = {"subscription": wanted["subscription"], "price": item["price"], "quantity": item.get("quantity", "1")}
        return _confirm(account, request, session, asked)
    customer = account.store.get("customer", session["customer"])
    card = account.store.find(customer["invoice_settings"]["default_payment_method"])
    every = account.store.of("subscription", customer=customer["id"])
    return page(
        request,
        "stripe/portal.html",
        session=session,
        only=flow["type"] if flow else "",
        customer=customer,
        subscriptions=[one for one in every if one["status"] not in ENDED],
        prices=_prices(account),
        product=_product_name(account),
        card=card or _card_of_a_subscription(account, every),
        invoices=account.store.of("invoice", customer=customer["id"])[:20],
        problem=problem,
        done=request.query_params.get("done", ""),
        form_action=origins(_leave(session)),
        status_code=422 if problem else 200,
    )


def _preview(account: Account, request: Request, form: Form) -> Response:
    try:
        return _confirm(account, request, _session(account, request), form)
    except StripeError as error:
        return _show(account, request, form, problem=str(error))


def _confirm(account: Account, request: Request, session: Obj, asked: Form) -> Response:
    """What the change costs today, before it is made."""
    subscription = _subscription(account, session, asked)
    item = subscription["items"]["data"][0]
    wanted = {"id": item["id"], "price": asked.get("price"), "quantity": _quantity(asked)}
    details = {"items": [wanted], "proration_behavior": "always_invoice"}
    cost = preview(account, {"subscription": subscription["id"], "subscription_details": details})
    return page(
        request,
        "stripe/portal_confirm.html",
        session=session,
        subscription=subscription,
        price=account.store.get("price", asked.get("price"), "price"),
        product=_product_name(account),
        quantity=wanted["quantity"],
        cost=cost,
        form_action=origins(_leave(session)),
    )


def _doing(step: Step) -> Callable[[Account, Request, Form], Response]:
    """Do it, then back to the portal, or on to where the flow ends."""

    def work(account: Account, request: Request, form: Form) -> Response:
        session = _session(account, request)
        try:
            step(account, session, form)
        except StripeError as error:
            return _show(account, request, form, problem=str(error))
        name = step.__name__.removeprefix("_")
        return RedirectResponse(_leave(session) or f"/portal/{session['id']}?done={name}", status_code=303)

    return work


def _change(account: Account, session: Obj, form: Form) -> None:
    subscription = _subscription(account, session, form)
    portal.change(account, subscription["id"], form.get("price", ""), int(_quantity(form)))


def _cancel(account: Account, session: Obj, form: Form) -> None:
    portal.cancel(account, _subscription(account, session, form)["id"])


def _keep(account: Account, session: Obj, form: Form) -> None:
    portal.keep(account, _subscription(account, session, form)["id"])


def _card(account: Account, session: Obj, form: Form) -> None:
    portal.change_card(account, session["customer"], form.get("card", ""))


def _session(account: Account, request: Request) -> Obj:
    return account.store.get("billing_portal.session", request.path_params["id"])


def _subscription(account: Account, session: Obj, form: Form) -> Obj:
    """One of this customer's. Raises StripeError for anybody else's."""
    found = account.store.get("subscription", form.get("subscription", ""))
    if found["customer"] != session["customer"]:
        raise missing("subscription", found["id"])
    return found


def _quantity(form: Form) -> str:
    given = str(form.get("quantity") or "1")
    if not given.isdecimal() or not 1 <= int(given) <= MOST_SEATS:
        raise StripeError(f"Choose a quantity from 1 to {MOST_SEATS:,}.", param="quantity")
    return given


def _leave(session: Obj) -> str:
    """Where the flow leads once it is done; nothing for the portal's own front page."""
    done = ((session["flow"] or {}).get("after_completion")) or {}
    return str((done.get("redirect") or {}).get("return_url") or "") if done.get("type") == "redirect" else ""


def _prices(account: Account) -> list[Obj]:
    """What can be switched to, cheapest first."""
    every = [
        one for one in account.store.of("price", active=True) if one["recurring"] and one["unit_amount"] is not None
    ]
    return sorted(every, key=lambda one: (one["currency"], one["recurring"]["interval"], one["unit_amount"]))


def _product_name(account: Account) -> Callable[[Obj], str]:
    def name(price: Obj) -> str:
        return str(account.store.get("product", price["product"])["name"])

    return name


def _card_of_a_subscription(account: Account, every: list[Obj]) -> Obj | None:
    used = [one["default_payment_method"] for one in every if one["default_payment_method"]]
    return account.store.find(used[0]) if used else None
