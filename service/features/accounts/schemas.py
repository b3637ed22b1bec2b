"""What the forms take. Passwords count exactly as typed: nothing is cut off at their ends."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, ConfigDict, Field, SecretStr, StringConstraints

from service.core.schemas import Input, Line, Name, Output
from service.guardrails.staff_reasons import Reason

LONGEST_SECRET = 1_000
"""Far above what a new password may be, so that typing one wrong is told as wrong and not as too long."""


def canonical_email(value: str) -> str:
    """One spelling per mailbox: lower case, punycode domain, ASCII before the @ (no look-alikes of other accounts)."""
    try:
        found = validate_email(value, check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError:
        raise ValueError("enter an e-mail address like name@example.com") from None
    return (found.ascii_email or found.normalized).lower()


Email = Annotated[
    Line, StringConstraints(max_length=254), AfterValidator(canonical_email), Field(title="E-mail address")
]
CurrentPassword = Annotated[SecretStr, Field(title="Password", max_length=LONGEST_SECRET)]
NewPassword = Annotated[
    SecretStr,
    Field(
        title="New password",
        description="At least 10 characters. A few words in a row work well.",
        max_length=LONGEST_SECRET,
    ),
]
Code = Annotated[Line, StringConstraints(min_length=6, max_length=40)]
LONGEST_WAY_BACK = 500
WayBack = Annotated[Line, StringConstraints(max_length=LONGEST_WAY_BACK)]
PersonName = Annotated[Name, Field(title="Your name")]


class Credentials(Input):
    model_config = ConfigDict(str_strip_whitespace=False)


class SignUp(Credentials):
    name: PersonName
    email: Email
    password: NewPassword


class LogIn(Credentials):
    email: Email
    password: CurrentPassword
    remember: bool = Field(False, title="Keep me signed in", description="For two weeks, on this device only.")
    next: WayBack = ""


class SecondFactor(Input):
    code: Code = Field(title="Code", description="Six digits from your authenticator app, or a recovery code.")


class MailMe(Input):
    """Asks for a mail: reset, confirmation, undo."""

    email: Email


class PasswordOnly(Credentials):
    password: CurrentPassword


class ChoosePassword(Credentials):
    password: NewPassword


class ChangePassword(ChoosePassword):
    current: SecretStr = Field(title="Present password", max_length=LONGEST_SECRET)


class ChangeName(Input):
    name: PersonName


class ChangeEmail(Input):
    email: Email = Field(title="New e-mail address", description="We send a link there; the change waits for it.")


class ConfirmByCode(Credentials):
    """Proof that it is still the same person; for people without a password."""

    proof: SecretStr = Field(title="Code from your authenticator app", max_length=LONGEST_SECRET)
    next: WayBack = ""


class ConfirmByPassword(ConfirmByCode):
    proof: SecretStr = Field(title="Password", max_length=LONGEST_SECRET)


class ConfirmTotp(Input):
    code: Code = Field(title="Code", description="The six digits that your app shows now.")


class DeleteAccount(Input):
    email: Email = Field(title="Your e-mail address", description="Type it to confirm.")


class ProviderAnswer(Input):
    """What the provider's redirect brought, sent on by our own page."""

    code: Annotated[Line, StringConstraints(max_length=2_000)] = ""
    state: Annotated[Line, StringConstraints(max_length=200)] = ""
    iss: Annotated[Line, StringConstraints(max_length=255)] = ""
    error: Annotated[Line, StringConstraints(max_length=200)] = ""


class ExternalProfile(Input):
    """What we take over from a provider."""

    email: Email
    name: PersonName


class PeopleWanted(Input):
    """What staff look for."""

    q: Annotated[Line, StringConstraints(max_length=254)] = Field(
        "", title="Find a person", description="The beginning of an e-mail address, or an account's id."
    )


class PersonListed(Output):
    """An account as staff see it in the list."""

    id: UUID
    email: str
    name: str
    email_verified_at: datetime | None
    deleted_at: datetime | None
    is_staff: bool
    created_at: datetime

    @property
    def state(self) -> str:
        if self.deleted_at is not None:
            return "deleted"
        if self.email_verified_at is None:
            return "unconfirmed"
        return "staff" if self.is_staff else "active"


class OneSession(Input):
    """Which of a person's sessions staff end, and why."""

    session: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{1,64}$")] = Field(json_schema_extra={"hidden": True})
    reason: Reason
