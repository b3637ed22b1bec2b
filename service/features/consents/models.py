"""The purposes that people decide about, and the news that goes only to those who asked for it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.database import Base
from service.core.ids import new_id
from service.guardrails.personal_data import content, internal
from service.guardrails.purposes import Basis, purpose
from service.guardrails.retention import days_after

PRODUCT_NEWS = purpose(
    "product_news",
    "News about the product",
    "We write to you, at most twice a month, what is new in the product. For this we use your e-mail address and"
    " nothing else. You can stop it here or with the link in each mail.",
    basis=Basis.CONSENT,
    uses=("contact.email",),
    through=("sendgrid", "smtp"),
)
USAGE_FIGURES = purpose(
    "usage_figures",
    "Counting how many people use the product",
    "Once a day we count how many people did something in the product in the last day and week, to see whether it is of"
    " use. Only the number is kept. Our interest is to know what to mend first; if yours weighs more, object.",
    basis=Basis.INTEREST,
)


class News(Base):
    """One piece of product news, as staff sent it."""

    __tablename__ = "news"
    __retention__ = days_after("created_at", days=365, reason="what was sent to whom is asked about for a year")
    __table_args__ = (Index("ix_news_created_at", "created_at", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, info=internal())
    subject: Mapped[str] = mapped_column(String(100), info=content())
    text: Mapped[str] = mapped_column(String(2_000), info=content())
    created_at: Mapped[datetime] = mapped_column(default=clock.now, info=internal())
