"""For staff: news to those who asked for it, and whose data must rest."""

from __future__ import annotations

from service.features.consents import actions, queries
from service.features.consents.schemas import LiftRestriction, NewsText, NewsWanted, RestrictionsWanted, RestrictPerson
from service.web.staff import Act, Column, Listing

RESTRICTIONS, NEWS = "/staff/restrictions", "/staff/news"
STAFF = (
    Listing(
        RESTRICTIONS,
        "Restrictions",
        queries.list_restrictions,
        wanted=RestrictionsWanted,
        columns=(
            Column("Restriction", "id", kind="break"),
            Column("Person", "user_id", link="/staff/people/{user_id}", kind="break"),
            Column("Why", "reason", kind="break", personal=True),
            Column("Since", "placed_at"),
            Column("Its end was decided", "lifting_asked_at"),
            Column("Ends", "lifts_at"),
        ),
        lead="Whose data we keep and use for nothing they do not ask for (GDPR Art. 18). People set this themselves "
        "under Account, Your choices; enter it here for those who wrote to us.",
        empty=("Nobody's data are restricted", "When somebody restricts theirs, they appear here."),
        order=71,
        item="limit_id",
    ),
    Act(
        RESTRICTIONS, "restrict", "Restrict", actions.restrict_person, form=RestrictPerson, whole=True,
        hint="Their data are kept and used for nothing that they do not ask for.",
        done="Their data rest from now on.",
    ),
    Act(
        RESTRICTIONS, "lift", "End it", actions.lift_restriction, form=LiftRestriction,
        hint="It ends three days after the person has been told.",
        done="We tell the person first; three days after that it ends.",
        applies=lambda row: row.lifting_asked_at is None and row.lifts_at is None,
    ),
    Listing(
        NEWS,
        "News",
        queries.list_news,
        wanted=NewsWanted,
        columns=(Column("Subject", "subject", kind="break"), Column("Sent", "created_at")),
        lead="What everybody got who had agreed to news about the product, the newest first; it is listed for a year.",
        empty=("Nothing was sent", "Write to all who agreed to news with the button above; or look for other words."),
        order=72,
    ),
    Act(
        NEWS, "send", "Send news", actions.send_news, form=NewsText, whole=True,
        hint="To everybody who agreed to news about the product, and to nobody else. Each mail has a link that takes "
        "the agreement back. What was sent cannot be taken back.",
        done="It goes out now, to everybody who agreed to product news.",
    ),
)  # fmt: skip
