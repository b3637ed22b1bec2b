"""The addresses that were somebody's before: what others have under them is the person's still.

Protects from: an erasure, a copy or a legal hold that knows a person by their present address only, and misses the mail
that went to the one before (GDPR Art. 15, 17). How to use: whoever changes an address adds `FormerAddress.of`; whoever
looks for what is about people asks `given_up`. `Person.until` (guardrails.subjects) bounds a copy by the moment of the
change: what came later may be the next holder's.

Limits: an address that is another confirmed account's by now finds nothing any more, also of what is older. What was
never confirmed was perhaps never theirs: it is not kept here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.crypto import BadSignature
from service.core.database import Base, UnitOfWork
from service.core.ids import new_id
from service.core.logging import get_logger
from service.guardrails.personal_data import internal, personal
from service.guardrails.retention import with_parent
from service.guardrails.sealed import key_index, seal, sealed, unseal

log = get_logger()
KNOWN = "SELECT id, user_id, email, until FROM former_addresses WHERE user_id = ANY($1) ORDER BY until"
HOLDERS = "SELECT email, id FROM users WHERE email = ANY($1) AND email_verified_at IS NOT NULL"


class Known(Protocol):
    id: Any
    email: Any


class FormerAddress(Base):
    """Stripe, the mail provider and copies of messages may know only this one."""

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
    def of(cls, user: Known) -> FormerAddress:
        """The address that this person is about to give up."""
        identifier = new_id()
        return cls(id=identifier, user_id=user.id, email=seal(cls.email, user.email, identifier))


async def given_up(work: UnitOfWork, people: Sequence[UUID]) -> Mapping[UUID, dict[str, datetime]]:
    """Each one's former addresses, and when they gave them up; without those that are another account's by now."""
    found = defaultdict[UUID, dict[str, datetime]](dict)
    for row in await work.raw.fetch(KNOWN, list(people)):
        if email := _opened(row["id"], row["email"]):
            found[row["user_id"]][email] = row["until"]
    sought = {email for addresses in found.values() for email in addresses}
    holders = {row["email"]: row["id"] for row in await work.raw.fetch(HOLDERS, list(sought))} if sought else {}
    for person, addresses in found.items():
        for email in [email for email in addresses if holders.get(email, person) != person]:
            del addresses[email]
    return found


def _opened(identifier: UUID, email: bytes) -> str:
    try:
        return unseal(FormerAddress.email, email, identifier).decode()
    except BadSignature:
        log.warning("a former address cannot be opened")
        return ""
