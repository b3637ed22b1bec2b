"""An API key: a name, a role, scopes, and the hash of one secret, or of two while a new one takes over."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary, String
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.database import Base
from service.core.errors import Conflict
from service.core.ids import new_id
from service.features.organizations.models import Organization, RoleColumn
from service.guardrails.api_keys import SHOWN, hash_of, mint
from service.guardrails.permissions import Role
from service.guardrails.personal_data import author, content, internal, pointer, secret
from service.guardrails.retention import with_parent
from service.guardrails.sealed import hashed
from service.guardrails.tenancy import TenantScoped

MOST_KEYS = 50


class ApiKey(TenantScoped, Base):
    """Belongs to the organization: it outlives the membership of whoever made it, unless they are removed."""

    __tablename__ = "api_keys"
    __retention__ = with_parent(
        Organization.__tablename__, reason="the audit log names its actors, so an ended key keeps its name"
    )
    __table_args__ = (
        Index("uq_api_keys_secret_hash", "secret_hash", unique=True),
        Index("ix_api_keys_previous_hash", "previous_hash"),
        Index("ix_api_keys_previous_by", "previous_by"),
        Index("ix_api_keys_organization_id_id", "organization_id", "id"),
        Index("ix_api_keys_prefix", "prefix"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    name: Mapped[str] = mapped_column(String(120), info=content())
    role: Mapped[Role] = mapped_column(RoleColumn, info=internal())
    """That of its maker, admin or owner; while they are a member, it does no more than they may at that moment."""
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String(64)), info=internal())
    prefix: Mapped[str] = mapped_column(String(16), info=internal())
    """The beginning of the key, by which people recognize it."""
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary, info=hashed(secret()))
    previous_hash: Mapped[bytes | None] = mapped_column(LargeBinary, info=hashed(secret()))
    previous_until: Mapped[datetime | None] = mapped_column(info=internal())
    previous_by: Mapped[UUID | None] = mapped_column(info=pointer())
    """Who was shown the secret before: what somebody else may, who renews it, is not theirs."""
    created_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    created_by: Mapped[UUID | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL"), index=True, info=author()
    )
    """Who was shown the secret that counts: whoever renews a key answers for it from then on."""
    expires_at: Mapped[datetime | None] = mapped_column(info=internal())
    revoked_at: Mapped[datetime | None] = mapped_column(info=internal())
    last_used_at: Mapped[datetime | None] = mapped_column(info=internal())

    def renew(self, organization_id: UUID, holder: UUID | None, *, overlap: timedelta = timedelta()) -> str:
        """A new secret, to be shown now or never; the one before it works for `overlap` longer."""
        if problem := why_ended(self.revoked_at, self.expires_at):
            raise Conflict(problem, mend="Make a new key instead.")
        self.previous_hash = self.secret_hash if overlap else None
        self.previous_until = clock.now() + overlap if overlap else None
        self.previous_by, self.created_by = self.created_by if overlap else None, holder
        shown = mint(organization_id)
        self.secret_hash, self.prefix = hash_of(shown), shown[:SHOWN]
        return shown

    def revoke(self) -> None:
        if self.revoked_at is not None:
            raise Conflict("This key was revoked before.", mend="Reload the page to see which keys still work.")
        self.revoked_at = clock.now()

    def end_for(self, person_id: UUID) -> None:
        """Whatever secret this person was shown works no longer."""
        if self.created_by == person_id:
            self.revoke()
        else:
            self.previous_hash = self.previous_until = self.previous_by = None


def why_ended(revoked_at: datetime | None, expires_at: datetime | None, until: datetime | None = None) -> str:
    """A sentence on why a key no longer works, or nothing; `until` is the end of a secret that was replaced."""
    now = clock.now()
    if revoked_at is not None:
        return "This API key was revoked."
    if expires_at is not None and expires_at <= now:
        return "This API key has expired."
    if until is not None and until <= now:
        return "This API key was replaced by a new one."
    return ""
