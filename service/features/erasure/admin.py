"""For staff: who asked to be erased, by letter too; a second pair of eyes; and the evidence of each step."""

from __future__ import annotations

from service.features.erasure import actions, queries
from service.features.erasure.schemas import Checked, Enter, Refused
from service.web.staff import Act, Column, Detail, Listing
from service.web.staff_lists import OfPerson

ERASURES = "/staff/erasures"
STAFF = (
    Listing(
        ERASURES,
        "Erasures",
        queries.list_requests,
        wanted=OfPerson,
        columns=(
            Column("Request", "id", link="/staff/erasures/{id}", kind="break"),
            Column("Person", "user_id", link="/staff/people/{user_id}", kind="break"),
            Column("State", "state", badges={"done": "success", "requested": "warning"}),
            Column("Held up", "is_held", badges={True: "warning"}),
            Column("Came", "requested_at"),
            Column("From", "source"),
        ),
        lead="Who asked to be erased (GDPR Art. 17), and how far it is. People ask under Account, Your choices; enter "
        "it here for those who wrote to us.",
        empty=("Nobody asked", "Requests appear here as soon as somebody asks, or you enter one."),
        order=70,
        item="request_id",
    ),
    Detail(
        ERASURES, "Erasure", queries.get_request, "erasure/staff/one.html",
        account=lambda view: view.found.user_id, personal=lambda view: view.is_personal,
    ),
    Act(
        ERASURES, "enter", "Enter a request", actions.enter, form=Enter, whole=True,
        hint="A colleague checks who wrote before anything happens.",
        done="Entered. A colleague has to check who wrote.",
    ),
    Act(
        ERASURES, "verify", "It was them: erase", actions.verify, form=Checked, danger=True,
        hint="Nothing happens until somebody else than whoever entered it has checked who wrote.",
        done="Checked. It begins tomorrow; until then the person can take it back.",
        applies=lambda view: view.waits and not view.mine,
    ),
    Act(
        ERASURES, "refuse", "Refuse", actions.refuse, form=Refused,
        hint="It was not them, or a law is in the way.", done="Refused. The person gets a mail.",
        applies=lambda view: view.waits,
    ),
)  # fmt: skip
