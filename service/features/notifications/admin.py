"""For staff: which addresses mail does not go to, letting it go there again, and which events nobody understood."""

from __future__ import annotations

from service.features.notifications import actions, queries
from service.features.notifications.schemas import Lift, SuppressionsWanted
from service.web.dead_letters import DeadLetters
from service.web.staff import Act, Column, Listing

MAIL = "/staff/mail"
STAFF = (
    Listing(
        MAIL,
        "Mail",
        queries.list_suppressions,
        wanted=SuppressionsWanted,
        columns=(
            Column("Held back", "id", kind="break"),
            Column("Address", "email", personal=True, kind="break"),
            Column("Why", "cause"),
            Column("Code", "code"),
            Column("Since", "seen_at"),
        ),
        lead="Addresses that mail does not go to: it bounced, was called spam, or was unsubscribed from. "
        "What a person asks for at this moment, such as a reset, is tried all the same.",
        empty=("Nothing is held back", "If a mail did not arrive, their server has it, or it is among the spam."),
        order=40,
        item="suppression_id",
    ),
    Act(
        MAIL, "lift", "Lift", actions.lift_suppression, form=Lift, hint="Mail goes to this address again.",
        done="Lifted. Mail goes there again as soon as the provider has forgotten it, too.",
    ),
)  # fmt: skip
DEAD_LETTERS = [
    DeadLetters(
        "mail-events",
        "Events about mail",
        "What SendGrid told us and five attempts could not make sense of: an address may have bounced unnoticed.",
        "MailLate",
        queries.count_dead_events,
        queries.list_dead_events,
        actions.replay_events,
        actions.discard_events,
    )
]
