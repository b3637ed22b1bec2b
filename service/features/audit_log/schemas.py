"""One line of the log as people read it: who did what, to what, and what it was before and after."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, model_validator

from service.core.schemas import Output
from service.guardrails.audit.changes import CHANGED
from service.guardrails.permissions import Role

SENTENCES = {
    "accounts.confirm_address_of": "confirm somebody's address",
    "accounts.confirm_identity": "confirm who they are",
    "accounts.confirm_new_email": "confirm a new e-mail address",
    "accounts.confirm_totp": "switch on codes from an app",
    "accounts.confirm_with_provider": "confirm who they are at another provider",
    "accounts.connect_identity": "connect a login at another provider",
    "accounts.disconnect_identity": "disconnect a login at another provider",
    "accounts.end_device": "end one of their sessions",
    "accounts.end_other_sessions": "end their other sessions",
    "accounts.end_session_of": "end a session of somebody",
    "accounts.end_sessions_of": "end all sessions of somebody",
    "accounts.log_in": "log in",
    "accounts.log_out": "log out",
    "accounts.offer_totp": "begin to set up codes from an app",
    "accounts.remove_totp": "switch off codes from an app",
    "accounts.renew_recovery_codes": "make new recovery codes",
    "accounts.request_new_email": "ask for another e-mail address",
    "accounts.reset_totp_of": "switch off somebody's codes from an app",
    "accounts.send_reset_link": "send somebody a link to reset the password",
    "admin.give_reason": "say why personal data must be seen",
    "admin.hold": "place a legal hold",
    "admin.lift_hold": "lift a legal hold",
    "admin.turn_flag": "turn a feature on or off for the organization",
    "api_keys.create": "make an API key",
    "api_keys.enter": "use an API key that works no more",
    "api_keys.revoke": "revoke an API key",
    "api_keys.rotate": "renew the secret of an API key",
    "audit_log.export": "export the audit log",
    "audit_log.read": "read the audit log",
    "billing.cancel_now": "end the plan at once",
    "billing.discard": "discard a message from Stripe",
    "billing.link": "link a customer at Stripe",
    "billing.notify": "announce something about the plan",
    "billing.open_customer": "prepare paying",
    "billing.override_plan": "grant a plan",
    "billing.plan_cancellation": "ask to cancel the plan",
    "billing.plan_change": "ask for another plan",
    "billing.plan_checkout": "begin to pay for a plan",
    "billing.plan_end": "end the plan",
    "billing.plan_portal": "open the pages for cards and invoices",
    "billing.plan_resumption": "ask to resume the plan",
    "billing.plan_seats": "adjust the seats that are paid for",
    "billing.read_body": "read a message from Stripe",
    "billing.refund": "refund a charge",
    "billing.resync": "read the plan again at Stripe",
    "billing.set_entitlement": "change what the plan includes",
    "indicators.append": "add a reading to an indicator",
    "indicators.append_batch": "add readings to an indicator",
    "indicators.append_mixed": "add readings to several indicators",
    "indicators.correct": "correct a reading",
    "organizations.accept_invitation": "accept an invitation",
    "organizations.change_role": "change the role of a member",
    "organizations.invite": "invite somebody",
    "organizations.leave": "leave the organization",
    "organizations.remove_member": "remove a member",
    "organizations.resend_invitation": "send an invitation again",
    "organizations.revoke_invitation": "revoke an invitation",
    "organizations.switch": "begin to work in this organization",
    "organizations.transfer": "transfer the ownership",
    "support.allow": "decide whether support may come in",
    "support.begin": "begin a visit",
    "support.come_back": "end a visit",
    "support.expire": "end a visit whose time was over",
    "support.stop": "end a visit",
}
"""Where the words made from an action's name would read badly; every other action explains itself."""
PAST = {"begin": "began", "leave": "left", "log": "logged", "make": "made", "read": "read", "send": "sent"}

Blank = BeforeValidator(lambda value: value or None)
"""A form that was sent with an empty field."""
Day = Annotated[date, Field(ge=date(2000, 1, 1), le=date(2999, 12, 31))]
ActionName = Annotated[str, StringConstraints(pattern=r"^[a-z_]+\.[a-z_]+$", max_length=80)]


class Filters(BaseModel):
    """What part of the log is asked for; days are whole days in UTC, both included."""

    action: Annotated[ActionName | None, Blank] = Field(
        None, title="What happened", description="The name of an action", examples=["indicators.archive"]
    )
    actor: Annotated[UUID | None, Blank] = Field(None, title="Person", description="Who did it")
    since: Annotated[Day | None, Blank] = Field(None, title="From", description="The first day, in UTC")
    until: Annotated[Day | None, Blank] = Field(None, title="To", description="The last day, in UTC")

    def bounds(self) -> dict[str, UUID]:
        """The period as ids: they are in order of time (UUIDv7), so one index serves the period and the order."""
        return {
            "first": _lowest_id(self.since) if self.since else UUID(int=0),
            "beyond": _lowest_id(self.until + timedelta(days=1)) if self.until else UUID(int=2**128 - 1),
        }


class Change(Output):
    field: Annotated[str, Field(examples=["archived_at"])]
    before: Any
    after: Any


class Entry(Output):
    """`network` is the caller's network, not their address. Values of personal fields are never in the log.

    `on_behalf_of` is whoever set a job of ours in motion, or in whose account our support acted.
    """

    id: UUID
    at: datetime
    sentence: Annotated[str, Field(examples=["Ann Example archived an indicator"])]
    action: Annotated[str, Field(examples=["indicators.archive"])]
    outcome: Annotated[str, Field(examples=["done"])]
    actor_kind: Annotated[str, Field(examples=["user"])]
    actor_id: UUID | None
    actor: Annotated[str, Field(examples=["Ann Example"])]
    on_behalf_of: UUID | None
    object_type: Annotated[str, Field(examples=["indicators"])]
    object_id: UUID | None
    reason: Annotated[str, Field(examples=[""])]
    network: Annotated[str, Field(examples=["192.0.2.0/24"])]
    request_id: Annotated[str, Field(examples=["01963f6e9d3c7c1b8f0e2a4b6c8d0e1f"])]
    changes: list[Change]
    facts: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def from_row(cls, row: dict[str, Any]) -> dict[str, Any]:
        """A row of the log with its actor's present name."""
        return row | {
            "actor": _actor(row),
            "sentence": _sentence(_actor(row), describe(row["action"]), row["outcome"]),
            "changes": [
                {"field": name, "before": _word(name, values[0]), "after": _word(name, values[1])}
                for name, values in row["changes"].items()
            ],
        }


def describe(action: str) -> str:
    """What an action does, in words: indicators.archive reads "archive an indicator"."""
    if action in SENTENCES:
        return SENTENCES[action]
    group, _, name = action.partition(".")
    verb, _, rest = name.partition("_")
    noun = group.removesuffix("s").replace("_", " ")
    thing = f"{'an' if noun[:1] in 'aeio' else 'a'} {noun}"
    return f"{verb} the {rest.replace('_', ' ')} of {thing}" if rest else f"{verb} {thing}"


def _sentence(actor: str, deed: str, outcome: str) -> str:
    if outcome in ("done", "succeeded"):
        verb, space, rest = deed.partition(" ")
        return f"{actor} {_past(verb)}{space}{rest}"
    ending = {"denied": "was refused", "failed": "failed"}.get(outcome, outcome)
    return f"{actor} tried to {deed} and {ending}"


def _actor(row: dict[str, Any]) -> str:
    if row["actor_kind"] == "staff" and row["on_behalf_of"]:
        # Which colleague it was is our business, and stands in the row; that it was not the person is the customer's.
        return f"Our support, for {row['for_whom'] or 'a former user'}"
    if row["actor_name"]:
        return f"The API key “{row['actor_name']}”" if row["actor_kind"] == "api_key" else str(row["actor_name"])
    return {"user": "A former user", "staff": "Our staff", "system": "The system", "api_key": "An API key"}.get(
        row["actor_kind"], "Somebody who was not logged in"
    )


def _past(verb: str) -> str:
    if verb in PAST:
        return PAST[verb]
    if verb.endswith("e"):
        return f"{verb}d"
    return f"{verb[:-1]}ied" if verb.endswith("y") and verb[-2:-1] not in "aeiou" else f"{verb}ed"


def _word(name: str, value: Any) -> Any:
    if value == CHANGED:
        return "(kept out of the log)"
    return Role(value).label if name.endswith("role") and value in iter(Role) else value


def _lowest_id(day: date) -> UUID:
    """The smallest UUIDv7 (RFC 9562) of a day: its first 48 bits are the milliseconds since 1970."""
    milliseconds = int(datetime.combine(day, time(), UTC).timestamp() * 1000)
    return UUID(int=milliseconds << 80)
