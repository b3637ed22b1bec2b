"""Every message Stripe sent: what became of it, what it changed, and having it count again."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import orjson
from fastapi import Request, Response
from pydantic import Field

from service.core.context import Context
from service.features.billing import actions, queries
from service.features.billing.admin._shared import CUSTOMERS, INBOX, TABS, Why
from service.features.billing.queries.staff import Filters, Message
from service.guardrails.staff_reasons import Reason
from service.web.flash import flash
from service.web.responses import redirect
from service.web.staff import Act, Column, Detail, Listing
from service.web.templating import render

MessageId = Annotated[int, Field(ge=1, lt=2**63)]
STATES = {"processed": "success", "dead": "danger", "unmatched": "warning"}


class Replay(Filters):
    """Whatever the filters show, and why."""

    reason: Reason


class Link(Why):
    organization: UUID = Field(title="Organization", description="Its id, as the customer's people see it.")


async def show_body(request: Request, ctx: Context, found: Message) -> Response:
    return render(request, "billing/staff/body.html", row=found.row, body=readable(found.row.open_body()))


async def lead_to_customer(request: Request, ctx: Context, customer_id: UUID) -> Response:
    flash(request, "Linked. What had waited for it is being read.")
    return redirect(request, f"{CUSTOMERS}/{customer_id}")


MESSAGES = (
    Listing(
        INBOX,
        "Messages from Stripe",
        queries.list_messages,
        wanted=Filters,
        columns=(
            Column("Received", "received_at", link="/staff/billing/inbox/{id}"),
            Column("Type", "type", kind="break"),
            Column("Customer", "customer", link="/staff/billing/inbox?subject={subject}", kind="break"),
            Column("State", "state", badges=STATES),
            Column("Note", "note"),
        ),
        lead="Every event that arrived, the newest first. A replay reads its customer again: nothing is done twice.",
        empty=("No messages", "Nothing fits these filters. Is nothing here at all, check the endpoint at Stripe."),
        item="message_id",
        tabs=TABS,
        on_home=False,
    ),
    Detail(
        INBOX, "Message from Stripe", queries.get_message, "billing/staff/message.html", key=MessageId,
        personal=lambda _: False,
    ),
    Act(
        INBOX, "replay", "Replay", actions.replay, form=Replay, whole=True,
        hint="All that fit, not only one page: up to 10,000. Their customers are read again one after the other.",
        done=lambda count: f"{count:,} messages are part of the next reading of their customers.",
    ),
    Act(
        INBOX, "read", "Show the message", actions.read_body, key=MessageId, answer=show_body,
        hint="Names and addresses are in it: that you looked is recorded.",
    ),
    Act(
        INBOX, "replay", "Replay", actions.replay_one, key=MessageId, done="It is part of the next reading.",
        hint="Its customer is read again; nothing is done twice.",
    ),
    Act(
        INBOX, "discard", "Discard", actions.discard, key=MessageId, danger=True, done="It is left alone from now on.",
        hint="Stop trying to make sense of it.", applies=lambda found: found.is_open,
    ),
    Act(
        INBOX, "link", "Link its customer to an organization", actions.link, form=Link, key=MessageId,
        hint="Only when you know whose it is: whoever is linked gets the plan that was paid for. An e-mail address "
        "proves nothing.",
        answer=lead_to_customer, applies=lambda found: found.is_untied,
    ),
)  # fmt: skip


def readable(body: bytes | None) -> tuple[str, str]:
    """(as it came, laid out for reading); both are empty for what is gone, the second for what is no JSON."""
    if body is None:
        return "", ""
    text = body.decode("utf-8", "replace")
    try:
        return text, orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return text, ""
