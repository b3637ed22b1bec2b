"""An organization is the tenant; a membership is a person's place in it; an invitation is a place kept for an address.

Row-level security is wider here than elsewhere: people see their own memberships in every organization, and whoever
proves to hold an invitation's token sees that one invitation (migrations/sql/organizations.sql).
"""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Computed, Enum, ForeignKey, Index, SmallInteger, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.crypto import keyed_hash
from service.core.database import Base
from service.core.errors import Conflict
from service.core.ids import new_id
from service.guardrails.permissions import Role
from service.guardrails.personal_data import author, content, internal, personal, secret
from service.guardrails.retention import after_deletion, days_after, with_parent
from service.guardrails.sealed import hashed
from service.guardrails.soft_delete import SoftDeletable
from service.guardrails.subjects import By, Subject
from service.guardrails.tenancy import TenantScoped

RESTORE_DAYS = 30
INVITATION_LIFETIME = timedelta(days=7)

RoleColumn = Enum(
    Role,
    name="role",
    native_enum=False,
    create_constraint=True,
    length=16,
    values_callable=lambda roles: [role.label for role in roles],
)
"""Stored as its word: a person reading the table or the audit log needs no key."""


class Organization(SoftDeletable, Base):
    __tablename__ = "organizations"
    __retention__ = after_deletion(
        days=RESTORE_DAYS, reason="an owner can bring a deleted organization back for 30 days; then all it owned goes"
    )

    __table_args__ = (Index("ix_organizations_search_name", "search_name", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal("tenant"))
    name: Mapped[str] = mapped_column(String(120), info=content())
    # What staff find it by. A column, because under row-level security no index serves a condition on lower(name).
    search_name: Mapped[str] = mapped_column(
        String(240, collation="C"), Computed("lower(name)", persisted=True), info=content()
    )
    region: Mapped[str] = mapped_column(String(16), server_default="eu", info=internal())
    created_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    # Whether our support may enter accounts here: the owner's to decide (features/support).
    support_access: Mapped[bool] = mapped_column(default=True, server_default="true", info=internal())


class Membership(TenantScoped, Base):
    __tablename__ = "memberships"
    __retention__ = with_parent(Organization.__tablename__, reason="ends when the person leaves or is removed")
    __table_args__ = (
        UniqueConstraint("organization_id", "user_id"),
        Index("ix_memberships_user_id", "user_id"),
        Index("ix_memberships_organization_id_id", "organization_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    # CASCADE: an erased person's place goes with them; the last owner is refused long before (see actions/members.py).
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), info=internal("subject"))
    role: Mapped[Role] = mapped_column(RoleColumn, info=internal())
    created_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())


class Invitation(TenantScoped, Base):
    """Open until accepted, revoked or expired. Only the hash of its token is stored (ASVS 6.5.2)."""

    __tablename__ = "invitations"
    __subject__ = Subject("email", By.EMAIL, since="created_at")
    __retention__ = days_after(
        "expires_at", days=30, reason="answers 'was I invited?' for a month, then the address goes"
    )
    __table_args__ = (
        # One open invitation per address: two admins inviting at once must not send two working links.
        Index(
            "uq_invitations_open_address",
            "organization_id",
            "email",
            unique=True,
            postgresql_where=text("accepted_at IS NULL AND revoked_at IS NULL"),
        ),
        # These two are asked for across organizations: by whoever holds a link, and by the person it is meant for.
        Index("ix_invitations_token_hash", "token_hash"),
        Index("ix_invitations_email", "email"),
        Index("ix_invitations_organization_id_id", "organization_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    email: Mapped[str] = mapped_column(String(254), info=personal("contact.email"))
    role: Mapped[Role] = mapped_column(RoleColumn, info=internal())
    invited_by: Mapped[UUID | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL"), index=True, info=author()
    )
    sendings: Mapped[int] = mapped_column(SmallInteger, info=internal())
    token_hash: Mapped[bytes] = mapped_column(info=hashed(secret()))
    created_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    expires_at: Mapped[datetime] = mapped_column(index=True, info=internal())
    accepted_at: Mapped[datetime | None] = mapped_column(info=internal())
    revoked_at: Mapped[datetime | None] = mapped_column(info=internal())

    def token(self) -> str:
        return make_token(self.id, self.sendings)

    def renew(self) -> None:
        """A new link that works from now on; the one sent before stops working."""
        self.sendings += 1
        self.token_hash = hash_token(self.token())
        self.expires_at = clock.now() + INVITATION_LIFETIME

    def accept(self) -> None:
        if problem := why_closed(self.accepted_at, self.revoked_at, self.expires_at):
            raise Conflict(problem, mend="Ask for a new invitation.")
        self.accepted_at = clock.now()

    def revoke(self) -> None:
        self.refuse_when_settled()
        self.revoked_at = clock.now()

    def refuse_when_settled(self) -> None:
        """An expired invitation may be sent again or revoked; an accepted or revoked one is history."""
        if problem := why_closed(self.accepted_at, self.revoked_at, None):
            raise Conflict(problem, mend="Reload the page to see who is still invited.")


def why_closed(accepted_at: datetime | None, revoked_at: datetime | None, expires_at: datetime | None) -> str:
    """A sentence on why an invitation no longer works, or nothing."""
    if revoked_at is not None:
        return "This invitation was withdrawn."
    if accepted_at is not None:
        return "This invitation has already been used."
    if expires_at is not None and expires_at <= clock.now():
        return "This invitation has expired."
    return ""


def make_token(invitation_id: UUID, sendings: int) -> str:
    """What the link carries: derived, not stored, so that a leaked table or job queue holds no working link, and a
    repeated mail job sends the same link again."""
    derived = keyed_hash("organizations.invitation.link", f"{invitation_id}:{sendings}")
    return base64.urlsafe_b64encode(derived).rstrip(b"=").decode()


def hash_token(token: str) -> bytes:
    return keyed_hash("organizations.invitation", token)
