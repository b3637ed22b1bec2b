"""What a person is told, and what they want to be told about. A kind of news is declared by the feature that has it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Enum, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.database import Base
from service.core.ids import new_id
from service.guardrails.permissions import Role
from service.guardrails.personal_data import internal, personal
from service.guardrails.retention import days_after, with_parent
from service.guardrails.tenancy import TenantScoped

KEPT_DAYS = 90


class Channel(StrEnum):
    """How a person hears of one kind of news."""

    MAIL = "mail"
    """In the product and by mail."""
    APP = "app"
    OFF = "off"


ChannelColumn = Enum(
    Channel,
    name="channel",
    native_enum=False,
    create_constraint=True,
    length=8,
    values_callable=lambda channels: [channel.value for channel in channels],
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of news: made once, at the top of a feature's models.py or jobs.py, so that every process knows it.

    `usual` is what somebody gets who never chose; `of` is the role from which on one is told of it at all.
    """

    name: str
    title: str
    usual: Channel = Channel.APP
    of: Role = Role.VIEWER
    about_others: bool = False
    """Its text names somebody else: the copy of a person's data leaves it out."""

    def __post_init__(self) -> None:
        if self.name in KINDS or len(self.name) > 40:
            raise ValueError(f"{self.name!r} is too long, or two kinds of news are called that")
        KINDS[self.name] = self


KINDS: dict[str, Kind] = {}

MEMBER_JOINED = Kind("member_joined", "Somebody joins the organization", Channel.MAIL, Role.ADMIN, about_others=True)
ROLE_CHANGED = Kind("role_changed", "Your role changes", Channel.MAIL)
PAYMENT = Kind("payment", "A payment fails or a plan ends", Channel.APP, Role.ADMIN)


class Notification(TenantScoped, Base):
    """One person, one piece of news. With a `key`, the same news reaches the person once, however often it is told."""

    __tablename__ = "notifications"
    __retention__ = days_after("created_at", days=KEPT_DAYS, reason="news of a quarter; what it tells of is elsewhere")
    __table_args__ = (
        Index("ix_notifications_newest", "organization_id", "user_id", "created_at", "id"),
        Index("ix_notifications_unread", "organization_id", "user_id", postgresql_where=text("read_at IS NULL")),
        Index("uq_notifications_key", "organization_id", "user_id", "kind", "key", unique=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    user_id: Mapped[UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True, info=internal("subject")
    )
    kind: Mapped[str] = mapped_column(String(40), info=internal())
    text: Mapped[str] = mapped_column(String(300), info=personal("message"))
    href: Mapped[str] = mapped_column(String(300), info=internal())
    key: Mapped[str] = mapped_column(String(120), info=internal())
    created_at: Mapped[datetime] = mapped_column(default=clock.now, index=True, info=internal())
    read_at: Mapped[datetime | None] = mapped_column(info=internal())


class NotificationChoice(Base):
    """What one person chose for one kind of news, wherever they belong; without a row the kind's `usual` holds."""

    __tablename__ = "notification_choices"
    __retention__ = with_parent("users", reason="a wish lasts as long as the account")

    user_id: Mapped[UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, info=internal("subject")
    )
    kind: Mapped[str] = mapped_column(String(40), primary_key=True, info=internal())
    channel: Mapped[Channel] = mapped_column(ChannelColumn, info=internal())
    changed_at: Mapped[datetime] = mapped_column(default=clock.now, onupdate=clock.now, info=internal())
