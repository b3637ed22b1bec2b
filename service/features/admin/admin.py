"""One person and one organization, what happened, and the pages of the panel that are written by hand."""

from __future__ import annotations

from service.features.admin import actions, queries
from service.features.admin.queries.organizations import OrganizationView
from service.features.admin.queries.people import PersonView
from service.features.admin.schemas import EventsWanted, FlagChange, FlagsWanted, JobsWanted
from service.web.staff import ORGANIZATION, Act, Column, Detail, Listing
from service.web.staff_home import StaffPage
from service.web.staff_lists import OfOrganization

PEOPLE, ORGANIZATIONS = "/staff/people", "/staff/organizations"
FLAGS, DECLARED = "/staff/flags", "/staff/flags/declared"
FLAG_TABS = (("Turned", FLAGS), ("Declared", DECLARED))
HOLD = "While a lawsuit or an audit asks for it: nothing of theirs is destroyed, whatever the rules of retention say."
LIFT = "The rules of retention hold again; what is overdue is destroyed at the next round."


def _is_held(view: PersonView | OrganizationView) -> bool:
    return view.hold is not None


def _is_free(view: PersonView | OrganizationView) -> bool:
    return view.hold is None


STAFF_PAGES = [
    StaffPage("Dead letters", "/staff/dead-letters", "What was given up on, of every kind, to try again.", 10),
    StaffPage("Rate limits", "/staff/rate-limits", "Why somebody is kept waiting, and letting them try again.", 16),
    StaffPage("System", "/staff/system", "Versions, schema, queue, workers, breakers, invariants.", 18),
    StaffPage("Switches", "/staff/switches", "Pause changes, sign-ups or mail while somebody looks into it.", 12),
]
STAFF = (
    Detail(PEOPLE, "Account", queries.get_person, "admin/person.html", account=lambda view: view.person.id),
    Detail(ORGANIZATIONS, "Organization", queries.get_organization, "admin/organization.html"),
    Listing(
        "/staff/events",
        "Events",
        queries.list_events,
        wanted=EventsWanted,
        columns=(
            Column("When", "at"),
            Column("What", "action", kind="break"),
            Column("Outcome", "outcome", badges={"denied": "warning", "failed": "warning", "refused": "warning"}),
            Column("Who", "actor_id", kind="break"),
            Column("To what", "object_id", kind="break"),
            ORGANIZATION,
            Column("Reason", "reason", personal=True),
            Column("Network", "network", personal=True),
        ),
        lead="Who did what to what, in every organization and in none: the audit log, newest first.",
        empty=("Nothing", "The log has no such line. Clear a filter, or look for the id in another field."),
        order=6,
    ),
    Listing(
        "/staff/jobs",
        "Jobs",
        queries.list_jobs,
        wanted=JobsWanted,
        columns=(
            Column("Id", "id"),
            Column("What", "name", kind="break"),
            ORGANIZATION,
            Column("Attempts", "attempts", kind="num"),
            Column("Enqueued", "enqueued_at"),
            Column("Due", "due_at"),
            Column("Last change", "changed_at"),
        ),
        lead="What the workers have before them and in hand. What they gave up on is tried again under Dead letters.",
        empty=("No job", "Nothing is in this state, or not of this name. Choose another state, or clear the name."),
        order=11,
    ),
    Listing(
        FLAGS,
        "Feature flags",
        queries.list_flags,
        wanted=OfOrganization,
        columns=(
            ORGANIZATION,
            Column("Flag", "flag"),
            Column("On", "is_on", badges={True: "success"}),
            Column("When", "changed_at"),
        ),
        lead="Organizations that differ from the default: what some see before all do.",
        empty=("Everybody has the defaults", "Turn a flag for an organization to try it there."),
        order=14,
        tabs=FLAG_TABS,
    ),
    Act(
        FLAGS, "turn", "Turn one for an organization", actions.turn_flag, form=FlagChange, whole=True,
        hint="It stands in the organization's own log, with the reason.",
        done="Turned; everywhere within five seconds. The organization's log says so, too.",
    ),
    Listing(
        DECLARED,
        "Declared flags",
        queries.list_declared_flags,
        wanted=FlagsWanted,
        columns=(
            Column("Flag", "flag"),
            Column("What it does", "description"),
            Column("Decides", "decides"),
            Column("Default", "default"),
            Column("Ends", "ends"),
        ),
        lead="Each flag ends on a day: by then it is everybody's or nobody's.",
        empty=("No such flag", "service/guardrails/feature_flags.py declares them. Look for other words, or for none."),
        tabs=FLAG_TABS,
        on_home=False,
    ),
    *(
        act
        for of in (PEOPLE, ORGANIZATIONS)
        for act in (
            Act(of, "hold", "Place a legal hold", actions.hold, hint=HOLD, done="Held.", applies=_is_free),
            Act(of, "lift-hold", "Lift the legal hold", actions.lift_hold, hint=LIFT, done="Lifted.", applies=_is_held),
        )
    ),
)  # fmt: skip
