"""The addresses that were somebody's before: others know the person by them still, and are to forget them, too."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.crypto import BadSignature
from service.core.database import Base
from service.core.ids import new_id
from service.core.logging import get_logger
from service.features.accounts.models.user import User
from service.guardrails.personal_data import internal, personal
from service.guardrails.retention import with_parent
from service.guardrails.sealed import key_index, seal, sealed, unseal

log = get_logger()


class FormerAddress(Base):
    """What an erasure needs to be whole: Stripe, the mail provider and copies of messages may know only this one."""

    __tablename__ = "former_addresses"
    __retention__ = with_parent("users", reason="an erasure finds by it what is still under a former address")
    __table_args__ = (key_index("former_addresses", "email"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    user_id: Mapped[UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True, info=internal("subject")
    )
    email: Mapped[bytes] = mapped_column(info=sealed(personal("contact.email", purpose="erasure")))
    until: Mapped[datetime] = mapped_column(default=clock.now, info=internal())

    @classmethod
    def of(cls, user: User) -> FormerAddress:
        """The address that this person is about to give up."""
        identifier = new_id()
        return cls(id=identifier, user_id=user.id, email=seal(cls.email, user.email, identifier))


async def former_addresses(session: AsyncSession, user_id: UUID) -> tuple[str, ...]:
    """Without those that are another account's by now: what is found by them is not this person's any more."""
    rows = await session.execute(select(FormerAddress.id, FormerAddress.email).where(FormerAddress.user_id == user_id))
    found = dict.fromkeys(text for row in rows if (text := _opened(row.id, row.email)))
    others = select(User.email).where(User.email.in_(found), User.id != user_id)
    taken = set(await session.scalars(others, execution_options={"include_deleted": True})) if found else set[str]()
    return tuple(email for email in found if email not in taken)


def _opened(identifier: UUID, email: bytes) -> str:
    try:
        return unseal(FormerAddress.email, email, identifier).decode()
    except BadSignature:
        log.warning("a former address cannot be opened")
        return ""
