"""Break-glass: staff rights for a named person, for an hour at most, loud from the first second to the review.

Protects from: the day on which nobody of staff can come in, and from the standing super-user that is kept for it (HIPAA
164.312(a)(2)(ii); PCI DSS 8.2.2: no shared login). Whoever has a shell opens a grant for an account that exists:
`python -m service break-glass open EMAIL`. It ends by itself, because every request compares the clock
(`users.emergency_until`, `users.staff_until`); each act under it says so in the audit log; an alert fires at once, and
another until somebody else has reviewed what was done.

How to use: `ctx.emergency` says that the acting person has one, for acts that nobody else may do alone: entering an
account of an organization that keeps support out. Impersonation stays what it is: writes are refused.

Limits: whoever has a shell can also write to the database; what they do there is not here. A review that is recorded
from a shell names a colleague without asking them, so it is a note and no review: all of staff get a mail, and the
alert stays until that colleague, or another, has said on the staff page what they found. Which acts an emergency opens
is decision 0020.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, select
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.context import Context
from service.core.database import Base
from service.core.ids import new_id
from service.guardrails.personal_data import Erasure, content, internal, secret
from service.guardrails.retention import days_after
from service.guardrails.sealed import hashed

LONGEST = timedelta(hours=1)
METHOD = "break-glass"
"""How whoever used a grant's code has proved who they are: beside their password, and in place of their app."""
MARK = "break_glass"
"""The fact that every row of the audit log carries that was written under a grant."""
SIX_YEARS = 2_192
REASON_LENGTH, NOTE_LENGTH = 200, 500


class BreakGlassGrant(Base):
    __tablename__ = "break_glass_grants"
    __retention__ = days_after(
        "opened_at", days=SIX_YEARS, reason="who had emergency rights, and who looked into it (HIPAA 164.316(b)(2)(i))"
    )
    __table_args__ = (
        Index("ix_break_glass_grants_opened_at", "opened_at"),
        Index("ix_break_glass_grants_user_id", "user_id"),
        Index("ix_break_glass_grants_reviewed_by", "reviewed_by"),
        CheckConstraint("reviewed_by <> user_id", "four_eyes"),
        CheckConstraint("reviewed_at > recorded_at", "confirmed"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    user_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL"), info=internal("subject", erasure=Erasure.NULL)
    )
    reason: Mapped[str] = mapped_column(String(REASON_LENGTH), info=content())
    opened_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
    ends_at: Mapped[datetime] = mapped_column(info=internal())
    closed_at: Mapped[datetime | None] = mapped_column(info=internal())
    code_hash: Mapped[bytes] = mapped_column(info=hashed(secret()))
    code_used_at: Mapped[datetime | None] = mapped_column(info=internal())
    # When a shell put a colleague's name and words below; they count from reviewed_at on, which only the panel sets.
    recorded_at: Mapped[datetime | None] = mapped_column(info=internal())
    reviewed_at: Mapped[datetime | None] = mapped_column(info=internal())
    reviewed_by: Mapped[UUID | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL"), info=internal("subject", erasure=Erasure.NULL)
    )
    review: Mapped[str] = mapped_column(String(NOTE_LENGTH), default="", server_default="", info=content())

    @property
    def is_open(self) -> bool:
        return self.closed_at is None and self.ends_at > clock.now()

    @property
    def over_at(self) -> datetime:
        """The moment from which on nothing is done under it."""
        return self.closed_at or self.ends_at


async def find_open(ctx: Context, user_id: UUID) -> BreakGlassGrant | None:
    """The person's grant, locked."""
    wanted = select(BreakGlassGrant).where(
        BreakGlassGrant.user_id == user_id,
        BreakGlassGrant.closed_at.is_(None),
        BreakGlassGrant.ends_at > clock.now(),
    )
    found: BreakGlassGrant | None = await ctx.db.scalar(wanted.with_for_update())
    return found


async def use_code(ctx: Context, user_id: UUID, code_hash: bytes) -> bool:
    """Whether this is the code that the command printed; it works once."""
    grant = await find_open(ctx, user_id)
    if grant is None or grant.code_used_at is not None or grant.code_hash != code_hash:
        return False
    grant.code_used_at = clock.now()
    ctx.note("break_glass.use", "done", grant=str(grant.id), step="code")
    return True


def proves(ctx: Context) -> bool:
    """Whether the acting session has a second factor: an app's code, or a grant's while that is open."""
    methods = ctx.login.methods if ctx.login is not None else ()
    return "totp" in methods or (ctx.emergency and METHOD in methods)
