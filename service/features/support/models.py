"""A visit of our staff to somebody's account, as the organization may look it up afterwards."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.database import Base
from service.core.ids import new_id
from service.guardrails.personal_data import Erasure, internal, personal, pointer
from service.guardrails.retention import days_after
from service.guardrails.subjects import Subject
from service.guardrails.tenancy import TenantScoped

REASON_LENGTH = 200


class SupportVisit(TenantScoped, Base):
    __tablename__ = "support_visits"
    __retention__ = days_after("ends_at", days=400, reason="an owner can see for a year who of our staff came, and why")
    __table_args__ = (
        Index("ix_support_visits_organization_id_id", "organization_id", "id"),
        Index("ix_support_visits_person_id", "person_id"),
        Index("ix_support_visits_staff_id", "staff_id"),
        Index("ix_support_visits_ends_at", "ends_at"),
    )

    # So that it is in the copy of whoever was visited; the organization's record of it outlives their account.
    __subject__ = Subject("person_id")

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    # Both empty themselves with the account.
    person_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"), info=pointer())
    staff_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"), info=pointer())
    # A colleague's words about the person: they go with the account.
    reason: Mapped[str | None] = mapped_column(
        String(REASON_LENGTH), info=personal("message", purpose="security", erasure=Erasure.NULL)
    )
    began_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    ends_at: Mapped[datetime] = mapped_column(info=internal())
    # Under break-glass: only then is it where the organization keeps support out.
    emergency: Mapped[bool] = mapped_column(default=False, server_default="false", info=internal())
    ended_at: Mapped[datetime | None] = mapped_column(info=internal())

    def end(self) -> bool:
        """Whether it was still open; nothing ends twice, so nobody is told twice."""
        if self.ended_at is not None:
            return False
        self.ended_at = min(clock.now(), self.ends_at)
        return True
