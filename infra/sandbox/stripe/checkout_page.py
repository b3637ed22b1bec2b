"""The Checkout page and the bank's challenge: choose a test card, pay, be declined, or go back."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from infra.sandbox.pages import page
from infra.sandbox.stripe import checkout, payments
from infra.sandbox.stripe.checkout_shape import line_items
from infra.sandbox.stripe.pages import Form, locked, notice, origins
from infra.sandbox.stripe.store import Account, Obj, StripeError


def checkout_routes(account: Account) -> list[Route]:
    return [
        Route("/checkout/{id}", locked(account, _show)),
        Route("/checkout/{id}", locked(account, _pay), methods=["POST"]),
        Route("/3ds/{id}", locked(account, _challenge)),
        Route("/3ds/{id}", locked(account, _answer), methods=["POST"]),
    ]


def _show(account: Account, request: Request, form: Form, *, problem: str = "") -> Response:
    session = account.store.get("checkout.session", request.path_params["id"])
    if session["status"] == "complete":
        text = "This page was paid already, perhaps in another tab. Nothing was charged now."
        code = 409 if request.method == "POST" else 200
        return notice(request, "Already paid", text, link=_success(session), label="Continue", status_code=code)
    if session["status"] == "expired":
        text = "Nothing was charged. Start again where you came from."
        return notice(request, "This page has expired", text, link=session["cancel_url"] or "", label="Go back")
    if intent_id := checkout.challenge(account, session["id"]):
        return RedirectResponse(f"/3ds/{intent_id}", status_code=303)
    params = account.checkouts[session["id"]]["params"]
    customer = account.store.find(session["customer"])
    return page(
        request,
        "stripe/checkout.html",
        session=session,
        items=line_items(account, params.get("line_items") or []),
        trial_days=(params.get("subscription_data") or {}).get("trial_period_days"),
        email=(customer or {}).get("email") or session["customer_email"],
        chosen=form.get("card") or "pm_card_visa",
        problem=problem or _last_problem(account, session),
        form_action=origins(session["success_url"]),
        status_code=402 if problem else 200,
    )


def _pay(account: Account, request: Request, form: Form) -> Response:
    session = account.store.get("checkout.session", request.path_params["id"])
    try:
        checkout.complete(account, session["id"], form.get("card", ""))
    except StripeError as error:
        return _show(account, request, form, problem=str(error))
    if intent_id := checkout.challenge(account, session["id"]):
        return RedirectResponse(f"/3ds/{intent_id}", status_code=303)
    return RedirectResponse(_success(session), status_code=303)


def _challenge(account: Account, request: Request, form: Form) -> Response:
    """The bank's page: it is the bank that asks, so it knows nothing but the amount."""
    intent = account.store.get("payment_intent", request.path_params["id"])
    if intent["status"] != "requires_action":
        return notice(request, "Nothing to confirm", "This payment waits for no answer.", status_code=409)
    session = _session_of(account, intent)
    target = origins(session["success_url"]) if session else "'self'"
    return page(request, "stripe/challenge.html", intent=intent, form_action=target)


def _answer(account: Account, request: Request, form: Form) -> Response:
    intent = account.store.get("payment_intent", request.path_params["id"])
    session = _session_of(account, intent)
    payments.confirm(account, intent["id"], form.get("answer") == "yes")
    if session:
        is_done = session["status"] == "complete"
        return RedirectResponse(_success(session) if is_done else f"/checkout/{session['id']}", status_code=303)
    for payment in account.store.of("invoice_payment"):
        if payment["payment"]["payment_intent"] == intent["id"]:
            return RedirectResponse(f"/invoices/{payment['invoice']}", status_code=303)
    return notice(request, "Thank you", "You can close this page.")


def _session_of(account: Account, intent: Obj) -> Obj | None:
    for session in account.store.of("checkout.session", status="open"):
        if checkout.challenge(account, session["id"]) == intent["id"]:
            return session
    return None


def _last_problem(account: Account, session: Obj) -> str:
    """Why the person is back here from their bank."""
    kept = account.checkouts[session["id"]]
    subscription = account.store.find(kept.get("subscription"))
    if not subscription:
        return ""
    intents = account.store.of("payment_intent", customer=session["customer"] or kept.get("customer"))
    error = intents[0]["last_payment_error"] if intents else None
    return str(error["message"]) if error else ""


def _success(session: Obj) -> str:
    """Stripe fills in the session's id where the address asks for it."""
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])
