"""Credit notes: an invoice lowered after it was finalized (docs.stripe.com/invoicing/credit-notes)."""

from __future__ import annotations

from infra.sandbox.stripe import invoices
from infra.sandbox.stripe.changes import changing, create
from infra.sandbox.stripe.objects import listing
from infra.sandbox.stripe.params import integer, merge_metadata, required
from infra.sandbox.stripe.refunds import refund
from infra.sandbox.stripe.resources import collection
from infra.sandbox.stripe.shapes import fresh
from infra.sandbox.stripe.store import Account, Obj, StripeError
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
    line = fresh(
        account,
        "credit_note_line_item",
        "cnli",
        amount=amount,
        description=params.get("memo") or "Credit",
        unit_amount=amount,
        unit_amount_decimal=str(amount),
    )
    note = fresh(account, "credit_note", "cn", currency=invoice["currency"], customer=invoice["customer"])
    note |= dict.fromkeys(("amount", "subtotal", "subtotal_excluding_tax", "total", "total_excluding_tax"), amount)
    note |= {
        "effective_at": account.now(),
        "invoice": invoice["id"],
        "lines": listing([line], f"/v1/credit_notes/{note['id']}/lines"),
        "memo": params.get("memo"),
        "number": f"{invoice['number']}-CN-{account.store.counter:02d}",
        "pdf": f"{account.address}/credit_notes/{note['id']}/pdf",
        "post_payment_amount": amount if is_paid else 0,
        "pre_payment_amount": 0 if is_paid else amount,
        "reason": params.get("reason"),
        "type": "post_payment" if is_paid else "pre_payment",
    }
    merge_metadata(note, params)
    return note


OPERATIONS: list[Operation] = [
    ("POST", "/v1/credit_notes", add),
    *collection("credit_note", "/v1/credit_notes", "customer invoice"),
]
