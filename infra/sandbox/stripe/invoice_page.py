"""The hosted invoice: what it is for, paying it, a copy as PDF, and the receipt of a charge."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from infra.sandbox.pages import page
from infra.sandbox.stripe import invoices
from infra.sandbox.stripe.pages import Form, day, locked, money, notice
from infra.sandbox.stripe.pdf import text_as_pdf
from infra.sandbox.stripe.store import Account, Obj, StripeError


def invoice_routes(account: Account) -> list[Route]:
    return [
        Route("/invoices/{id}", locked(account, _show)),
        Route("/invoices/{id}", locked(account, _pay), methods=["POST"]),
        Route("/invoices/{id}/pdf", locked(account, _pdf)),
        Route("/receipts/{id}", locked(account, _receipt)),
    ]


def _show(account: Account, request: Request, form: Form, *, problem: str = "") -> Response:
    invoice = account.store.get("invoice", request.path_params["id"])
    return page(
        request,
        "stripe/invoice.html",
        invoice=invoice,
        intent=_intent(account, invoice),
        chosen=form.get("card") or "pm_card_visa",
        problem=problem,
        status_code=402 if problem else 200,
    )


def _pay(account: Account, request: Request, form: Form) -> Response:
    invoice = account.store.get("invoice", request.path_params["id"])
    try:
        invoices.pay(account, invoice["id"], form.get("card") or None)
    except StripeError as error:
        intent = _intent(account, invoice)
        if intent and intent["status"] == "requires_action":
            return RedirectResponse(f"/3ds/{intent['id']}", status_code=303)
        return _show(account, request, form, problem=str(error))
    return RedirectResponse(f"/invoices/{invoice['id']}", status_code=303)


def _intent(account: Account, invoice: Obj) -> Obj | None:
    return invoices.intent_of(account, invoice) if invoices.payments_of(account, invoice) else None


def _pdf(account: Account, request: Request, form: Form) -> Response:
    invoice = account.store.get("invoice", request.path_params["id"])
    currency = invoice["currency"]
    lines = [f"Invoice {invoice['number']}", f"Status: {invoice['status']}", ""]
    lines += [f"{one['description']}: {money(one['amount'], currency)}" for one in invoice["lines"]["data"]]
    lines += ["", f"Total: {money(invoice['total'], currency)}", f"Dated {day(invoice['created'])}"]
    return Response(text_as_pdf([*lines, "", "From a stand-in: no money has moved."]), media_type="application/pdf")


def _receipt(account: Account, request: Request, form: Form) -> Response:
    charge = account.store.get("charge", request.path_params["id"])
    amount = money(charge["amount"], charge["currency"])
    text = f"{amount} paid on {day(charge['created'])} with the card ending in {_last4(charge)}."
    if charge["amount_refunded"]:
        text += f" {money(charge['amount_refunded'], charge['currency'])} was given back."
    return notice(request, "Receipt", text)


def _last4(charge: Obj) -> str:
    return str(charge["payment_method_details"]["card"]["last4"])
