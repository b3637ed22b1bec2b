"""Credit notes: an invoice lowered after it was finalized (docs.stripe.com/invoicing/credit-notes)."""

from __future__ import annotations

from infra.sandbox.stripe import invoices
from infra.sandbox.stripe.changes import changing, create
from infra.sandbox.stripe.objects import listing, nulls
from infra.sandbox.stripe.params import integer, merge_metadata, required
from infra.sandbox.stripe.refunds import refund
from infra.sandbox.stripe.store import Account, Obj, StripeError, page_of
from infra.sandbox.stripe.wire import Operation


def add(account: Account, params: Obj) -> Obj:
    """Before payment it lowers what is due; after it, the amount is refunded or credited to the customer's balance."""
    required(params, "invoice", "amount")
    invoice = account.store.get("invoice", params["invoice"], "invoice")
    amount = integer(params, "amount") or 0
    is_paid = invoice["status"] == "paid"
    credited = invoice["post_payment_credit_notes_amount"] if is_paid else 0
    most = invoice["amount_paid"] - credited if is_paid else invoice["amount_remaining"]
    if invoice["status"] not in ("open", "paid") or not 0 < amount <= most:
        raise StripeError(f"The credit note's amount must be between 1 and {most}.", param="amount")
    note = _shape(account, invoice, amount, params, is_paid=is_paid)
    if is_paid:
        _give_back(account, invoice, note, params, amount)
    create(account, note, "credit_note.created")
    with changing(account, invoice, "invoice.updated"):
        if is_paid:
            invoice["post_payment_credit_notes_amount"] += amount
        else:
            invoice["pre_payment_credit_notes_amount"] += amount
            invoice["amount_due"] -= amount
            invoice["amount_remaining"] -= amount
            invoices.intent_of(account, invoice)["amount"] -= amount
    if not is_paid and not invoice["amount_remaining"]:
        invoices.write_off(account, invoice)
    return note


def void(account: Account, params: Obj, object_id: str) -> Obj:
    note = account.store.get("credit_note", object_id)
    if note["status"] == "void" or note["type"] != "pre_payment":
        raise StripeError("Only an issued credit note of an open invoice can be voided.")
    invoice = account.store.get("invoice", note["invoice"])
    with changing(account, note, "credit_note.voided"):
        note.update(status="void", voided_at=account.now())
    with changing(account, invoice, "invoice.updated"):
        invoice["pre_payment_credit_notes_amount"] -= note["amount"]
        invoice["amount_due"] += note["amount"]
        invoice["amount_remaining"] += note["amount"]
        invoices.intent_of(account, invoice)["amount"] += note["amount"]
    return note


def _give_back(account: Account, invoice: Obj, note: Obj, params: Obj, amount: int) -> None:
    refunded = integer(params, "refund_amount", 0) or 0
    if refunded:
        charge = account.store.get("charge", invoices.intent_of(account, invoice)["latest_charge"])
        made = refund(account, charge, refunded)
        note["refunds"] = [{"amount_refunded": refunded, "refund": made["id"], "type": "refund"}]
    if amount > refunded:
        customer = account.store.get("customer", invoice["customer"])
        with changing(account, customer, "customer.updated"):
            customer["balance"] -= amount - refunded
        note["customer_balance_transaction"] = account.new_id("cbtxn")


def _shape(account: Account, invoice: Obj, amount: int, params: Obj, *, is_paid: bool) -> Obj:
    note_id = account.new_id("cn")
    line: Obj = {
        "id": account.new_id("cnli"),
        "object": "credit_note_line_item",
        "amount": amount,
        "description": params.get("memo") or "Credit",
        "discount_amount": 0,
        "discount_amounts": [],
        "livemode": False,
        "metadata": {},
        "pretax_credit_amounts": [],
        "quantity": 1,
        "tax_rates": [],
        "taxes": [],
        "type": "custom_line_item",
        "unit_amount": amount,
        "unit_amount_decimal": str(amount),
    }
    note: Obj = {
        "id": note_id,
        "object": "credit_note",
        "amount": amount,
        "amount_shipping": 0,
        "created": account.now(),
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "discount_amount": 0,
        "discount_amounts": [],
        "effective_at": account.now(),
        "invoice": invoice["id"],
        "lines": listing([line], f"/v1/credit_notes/{note_id}/lines"),
        "livemode": False,
        "memo": params.get("memo"),
        "metadata": {},
        "number": f"{invoice['number']}-CN-{account.store.counter:02d}",
        "pdf": f"{account.address}/credit_notes/{note_id}/pdf",
        "post_payment_amount": amount if is_paid else 0,
        "pre_payment_amount": 0 if is_paid else amount,
        "pretax_credit_amounts": [],
        "reason": params.get("reason"),
        "refunds": [],
        "status": "issued",
        "subtotal": amount,
        "subtotal_excluding_tax": amount,
        "total": amount,
        "total_excluding_tax": amount,
        "total_taxes": [],
        "type": "post_payment" if is_paid else "pre_payment",
        **nulls("customer_account customer_balance_transaction out_of_band_amount shipping_cost voided_at"),
    }
    merge_metadata(note, params)
    return note


def list_(account: Account, params: Obj) -> Obj:
    wanted = {name: params[name] for name in ("customer", "invoice") if params.get(name)}
    return page_of(account.store.of("credit_note", **wanted), params, "/v1/credit_notes")


def retrieve(account: Account, params: Obj, object_id: str) -> Obj:
    return account.store.get("credit_note", object_id)


OPERATIONS: list[Operation] = [
    ("POST", "/v1/credit_notes", add),
    ("GET", "/v1/credit_notes", list_),
    ("GET", "/v1/credit_notes/{object_id}", retrieve),
    ("POST", "/v1/credit_notes/{object_id}/void", void),
]
