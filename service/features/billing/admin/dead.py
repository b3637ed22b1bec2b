"""What billing gave up on, for the page of dead letters; and its tile on the home of staff."""

from __future__ import annotations

from service.features.billing import actions, queries
from service.features.billing.admin._shared import CUSTOMERS, HOME, INBOX
from service.web.dead_letters import DeadLetters
from service.web.staff_home import StaffPage

STAFF_PAGES = [StaffPage("Billing", HOME, "How far the copy of Stripe is behind, every message, one customer.", 30)]
SYSTEM_FACTS = [queries.list_facts]
DEAD_LETTERS = [
    DeadLetters(
        "stripe-customers",
        "Stripe customers",
        "Twelve readings failed, so what Stripe says of them waits here. Mend the cause, then have them read again.",
        "BillingBehind",
        queries.count_dead_customers,
        queries.list_dead_customers,
        actions.resync_dead,
        href=f"{CUSTOMERS}/",
    ),
    DeadLetters(
        "stripe-messages",
        "Stripe messages of nobody",
        "Messages about a customer that no organization has; open one to link it, or discard what is not ours.",
        "BillingBehind",
        queries.count_unmatched,
        queries.list_unmatched,
        actions.replay_unmatched,
        actions.discard_unmatched,
        href=f"{INBOX}/",
    ),
]
