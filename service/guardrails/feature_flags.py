"""What some organizations see before all do: flags declared in code, each with an owner and a day on which it ends.

Protects from: the half-finished thing that everybody meets on the day of the deployment, the flag nobody dares to
remove, the test of a flag in an environment variable that needs a restart. How to use: a word in `Flag`, its line in
FLAGS, and where it matters:

    if await feature_flags.is_on(ctx, Flag.TILE_RANGE): ...

Staff turn it for one organization at a time (/staff/flags), with a reason that stands in that organization's log; who
was turned neither way has the default. When the day comes a test fails: make it everybody's or nobody's, and delete
the flag. A page under an ETag puts the answer into it.

Limits: a process believes what it read for up to 5 s, so a turn works everywhere after 5 s; it remembers so many
organizations and forgets who was read longest ago. A flag chooses between ways that are both safe: it is no permission
and no plan. Outside an organization, and while the table cannot be read for the first time, the default holds.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID
from weakref import WeakKeyDictionary

from sqlalchemy import ForeignKey, delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from service.core import clock
from service.core.context import Context, Resources
from service.core.database import LOST, Base
from service.core.statements import Prepared
from service.guardrails.personal_data import internal, pointer
from service.guardrails.retention import with_parent
from service.guardrails.tenancy import TenantScoped

FRESH_SECONDS = 5.0
MOST_REMEMBERED = 10_000


class Flag(StrEnum):
    TILE_RANGE = "tile_range"


@dataclass(frozen=True, slots=True)
class About:
    """What a flag does, for staff; who decides about it, and when that is due at the latest."""

    description: str
    owner: str
    ends_on: date
    default: bool


FLAGS = {
    Flag.TILE_RANGE: About(
        "Each tile of the dashboard says between which values its indicator moved.",
        owner="product",
        ends_on=date(2027, 6, 30),
        default=False,
    ),
}


class OrganizationFlag(TenantScoped, Base):
    """An organization that was turned one way or the other; no row: the default."""

    __tablename__ = "organization_flags"
    __retention__ = with_parent("organizations", reason="what an organization sees ends with it")

    organization_id: Mapped[UUID] = mapped_column(
        ForeignKey("organizations.id"), primary_key=True, info=internal("tenant")
    )
    name: Mapped[str] = mapped_column(primary_key=True, info=internal())
    is_on: Mapped[bool] = mapped_column(info=internal())
    changed_at: Mapped[datetime] = mapped_column(info=internal())
    changed_by: Mapped[UUID | None] = mapped_column(info=pointer())


STATES = Prepared(select(OrganizationFlag.name, OrganizationFlag.is_on))
Known = OrderedDict[UUID, tuple[float, dict[str, bool]]]

_known: WeakKeyDictionary[Resources, Known] = WeakKeyDictionary()
"""What each set of resources (one per process) read last of an organization, and when (monotonic seconds)."""


async def is_on(ctx: Context, flag: Flag) -> bool:
    """For the acting organization; usually without asking the database."""
    turned = await current(ctx) if ctx.work.tenant is not None else {}
    return turned.get(flag, FLAGS[flag].default)


async def current(ctx: Context) -> dict[str, bool]:
    """The flags that the acting organization was turned to, one way or the other."""
    tenant, known = ctx.work.tenant, _known.setdefault(ctx.resources, OrderedDict())
    assert tenant is not None  # noqa: S101 - asked above
    read_at, states = known.get(tenant, (0.0, {}))
    now = time.monotonic()
    if tenant in known and now - read_at <= FRESH_SECONDS:
        return states
    try:
        states = {row["name"]: row["is_on"] for row in await ctx.fetch(STATES)}
    except LOST:
        return states
    known[tenant] = (now, states)
    known.move_to_end(tenant)
    if len(known) > MOST_REMEMBERED:
        known.popitem(last=False)
    return states


async def turn(ctx: Context, flag: Flag, *, on: bool | None) -> None:
    """For the acting organization, None back to the default; to be called from a staff action, which records it."""
    _known.setdefault(ctx.resources, OrderedDict()).pop(ctx.work.tenant, None)  # type: ignore[arg-type]
    if on is None:
        await ctx.db.execute(delete(OrganizationFlag).where(OrganizationFlag.name == flag.value))
        return
    values = {"is_on": on, "changed_at": clock.now(), "changed_by": ctx.actor.id}
    row = insert(OrganizationFlag).values(organization_id=ctx.work.tenant, name=flag.value, **values)
    await ctx.db.execute(row.on_conflict_do_update(index_elements=["organization_id", "name"], set_=values))
