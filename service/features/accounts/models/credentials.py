"""What a person can show instead of a password: a link we sent, a recovery code, an identity elsewhere."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Enum, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.crypto import BadSignature, keyed_hash, sign, unsign
from service.core.database import Base
from service.core.ids import new_id
from service.features.accounts.models.user import UNDO_DAYS, User
from service.guardrails.personal_data import internal, personal, secret
from service.guardrails.retention import days_after, with_parent
from service.guardrails.sealed import hashed

RECOVERY_CODES = 10
CODE_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
"""Without characters that look alike on paper."""


class Purpose(StrEnum):
    VERIFY = "verify"
    RESET = "reset"
    CHANGE_EMAIL = "change-email"
    UNDO_DELETION = "undo-deletion"

    @property
    def lifetime(self) -> timedelta:
        return {
            Purpose.VERIFY: timedelta(hours=24),
            Purpose.RESET: timedelta(minutes=30),
            Purpose.CHANGE_EMAIL: timedelta(hours=24),
            Purpose.UNDO_DELETION: timedelta(days=UNDO_DAYS),
        }[self]


class OneTimeToken(Base):
    """A link we mailed. It works once, for a while, and only while the account is as it was when we sent it.

    The link carries the row's id under our signature: neither the table nor the job queue holds anything that opens a
    door, and a mail that is sent twice has the same link twice.
    """

    __tablename__ = "one_time_tokens"
    __retention__ = days_after("expires_at", days=1, reason="explains 'this link has been used' for a day")

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    user_id: Mapped[UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True, info=internal("subject")
    )
    purpose: Mapped[Purpose] = mapped_column(
        Enum(Purpose, native_enum=False, length=16, values_callable=lambda kinds: [kind.value for kind in kinds]),
        info=internal(),
    )
    bound_to: Mapped[bytes] = mapped_column(info=hashed(secret()))
    # For a change of address: the new one; once used, the former one, which is told about it.
    other_email: Mapped[str | None] = mapped_column(String(254), info=personal("contact.email"))
    created_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    expires_at: Mapped[datetime] = mapped_column(index=True, info=internal())
    used_at: Mapped[datetime | None] = mapped_column(info=internal())

    @classmethod
    def for_user(cls, user: User, purpose: Purpose, *, other_email: str | None = None) -> OneTimeToken:
        return cls(
            id=new_id(),
            user_id=user.id,
            purpose=purpose,
            bound_to=_state(user, purpose),
            other_email=other_email,
            expires_at=clock.now() + purpose.lifetime,
        )

    @property
    def link(self) -> str:
        return sign("accounts.one-time-token", self.id.bytes)

    @staticmethod
    def id_in(link: str) -> UUID | None:
        """Which row a link means; None for one that we did not make. No guess ever reaches the database."""
        try:
            return UUID(bytes=unsign("accounts.one-time-token", link))
        except (BadSignature, ValueError):
            return None

    def opens(self, user: User, purpose: Purpose) -> bool:
        return self.purpose is purpose and not self.is_over and self.bound_to == _state(user, purpose)

    @property
    def is_over(self) -> bool:
        return self.used_at is not None or self.expires_at <= clock.now()

    def use(self) -> None:
        self.used_at = clock.now()


def _state(user: User, purpose: Purpose) -> bytes:
    """What must not have changed in between: no link outlives its password, its address or its deletion."""
    parts = [purpose.value, str(user.id), user.email]
    if purpose is not Purpose.VERIFY:
        parts += [str(user.password_changed_at), str(user.deleted_at)]
    return keyed_hash("accounts.one-time-token.state", "|".join(parts))


class RecoveryCode(Base):
    """One way in without the phone; shown once, stored hashed, works once."""

    __tablename__ = "recovery_codes"
    __retention__ = with_parent("users", reason="replaced as a set, or gone with the account")
    __table_args__ = (UniqueConstraint("user_id", "code_hash"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), info=internal("subject"))
    code_hash: Mapped[bytes] = mapped_column(info=hashed(secret()))
    created_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    used_at: Mapped[datetime | None] = mapped_column(info=internal())


def new_recovery_code() -> str:
    """Five groups of five, 123 random bits: from 112 on no slow hash is needed to keep them (ASVS 6.5.2)."""
    return "-".join("".join(secrets.choice(CODE_ALPHABET) for _ in range(5)) for _ in range(5))


def hash_recovery_code(code: str) -> bytes:
    """Read kindly: case, spaces and dashes do not matter."""
    kept = "".join(character for character in code.lower() if character in CODE_ALPHABET)
    return keyed_hash("accounts.recovery-code", kept)


class ExternalIdentity(Base):
    """The same person at another provider. `subject` is the provider's name for them; addresses are not compared."""

    __tablename__ = "external_identities"
    __retention__ = with_parent("users", reason="ends when the person disconnects it, or with the account")
    __table_args__ = (UniqueConstraint("issuer", "subject"), UniqueConstraint("user_id", "issuer"))

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), info=internal("subject"))
    issuer: Mapped[str] = mapped_column(String(255), info=internal())
    subject: Mapped[str] = mapped_column(String(255), info=personal("external.identifier"))
    created_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
