"""A person with an account. Not a tenant's row: one person may belong to many organizations."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.database import Base
from service.core.ids import new_id
from service.features.accounts.models import totp
from service.guardrails.personal_data import internal, personal, secret
from service.guardrails.retention import after_deletion
from service.guardrails.sealed import hashed, key_index, seal, sealed, unseal
from service.guardrails.soft_delete import SoftDeletable

UNDO_DAYS = 30
UNCONFIRMED_LIFETIME = timedelta(days=7)
"""A sign-up nobody confirmed goes; until then it keeps nobody from the address: the latest sign-up counts."""


class User(SoftDeletable, Base):
    __tablename__ = "users"
    __retention__ = after_deletion(
        days=UNDO_DAYS,
        reason="a person can bring a deleted account back for 30 days; then all that is about them goes",
        removed_by="erasure",
    )
    # The address stays taken while a deleted account can come back, or its return would find it occupied.
    __table_args__ = (
        UniqueConstraint("email"),
        CheckConstraint("email = lower(email)", "email_lower"),
        Index("ix_users_staff", "id", postgresql_where=text("is_staff")),
        Index("ix_users_unconfirmed", "created_at", postgresql_where=text("email_verified_at IS NULL")),
        key_index("users", "totp_secret"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal("subject"))
    email: Mapped[str] = mapped_column(String(254), info=personal("contact.email"))
    email_verified_at: Mapped[datetime | None] = mapped_column(info=internal())
    name: Mapped[str] = mapped_column(String(120), info=personal("name"))
    # None: the person logs in with another provider only.
    password_hash: Mapped[str | None] = mapped_column(String(200), info=hashed(secret()))
    password_changed_at: Mapped[datetime | None] = mapped_column(info=internal())
    # Compared with every session on every request: adding one ends them all, whatever Redis remembers.
    session_epoch: Mapped[int] = mapped_column(default=0, server_default="0", info=internal())
    is_staff: Mapped[bool] = mapped_column(default=False, server_default="false", info=internal())
    # Under break-glass: until when they are staff at all, and until when they may what staff may not (see guardrails).
    staff_until: Mapped[datetime | None] = mapped_column(info=internal())
    emergency_until: Mapped[datetime | None] = mapped_column(info=internal())
    # Where the person worked last; no foreign key, because organizations already point at users.
    last_organization_id: Mapped[UUID | None] = mapped_column(info=internal("tenant"))
    totp_secret: Mapped[bytes | None] = mapped_column(info=sealed(secret()))
    totp_confirmed_at: Mapped[datetime | None] = mapped_column(info=internal())
    # The newest time step used: an overheard code opens nothing a second time (RFC 6238 section 5.2).
    totp_last_step: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0", info=internal())
    created_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    # Set by staff: nobody logs in until they take it back.
    locked_at: Mapped[datetime | None] = mapped_column(info=internal())

    @property
    def has_totp(self) -> bool:
        return self.totp_secret is not None and self.totp_confirmed_at is not None

    @property
    def is_verified(self) -> bool:
        return self.email_verified_at is not None

    def end_sessions(self) -> None:
        self.session_epoch += 1

    def set_password(self, password_hash: str) -> None:
        """Another password: links to set one that are still under way stop working, other sessions end."""
        self.password_hash = password_hash
        self.password_changed_at = clock.now()
        self.end_sessions()

    def verify_email(self) -> None:
        self.email_verified_at = self.email_verified_at or clock.now()

    def offer_totp(self) -> None:
        """A new secret, without effect until a code from it has been seen."""
        self.totp_secret = seal(User.totp_secret, totp.new_secret(), self.id)
        self.totp_confirmed_at, self.totp_last_step = None, 0

    def shown_totp_secret(self) -> bytes:
        """For the QR code while setting up, and for checking."""
        if self.totp_secret is None:
            raise LookupError("this account has no second factor")
        return unseal(User.totp_secret, self.totp_secret, self.id)

    def use_totp(self, code: str) -> bool:
        """Whether the code is right and new; it is used up by this. Call it on a locked row only."""
        if self.totp_secret is None:
            return False
        step = totp.matching_step(self.shown_totp_secret(), code, at=clock.now(), after=self.totp_last_step)
        if step is None:
            return False
        self.totp_last_step = step
        return True

    def drop_totp(self) -> None:
        self.totp_secret, self.totp_confirmed_at, self.totp_last_step = None, None, 0
