"""An organization's files and mail stay in its region.

Protects from: the EU customer's file in an American bucket, the invitation to their colleague through an American mail
pool, because somebody used the one that was at hand (GDPR Art. 44). How to use:

    key = await place(ctx, f"t/{ctx.organization_id}/{uuid}")    # an object of the acting organization
    key = at_home(ctx.resources, f"exports/{person}/{uuid}")     # of a person: accounts live at home
    mailer = ctx.resources.get(Mailers).of(await region_of(ctx))

The store refuses to keep an object whose key names no region, so a new kind of object cannot forget this. An
organization whose region is not declared any more is refused, never sent elsewhere. A region is chosen when an
organization is made and never changes (a trigger in the database holds that), so what was read once stays true.

Limits: PostgreSQL and Redis are at home, with every organization's rows; see docs/compliance/residency.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import UUID

from service.core.context import Context, Resources
from service.core.database import UnitOfWork
from service.core.regions import in_region, split_key

MOST_KNOWN = 10_000


class UnknownRegion(Exception):
    """The organization belongs to a region that the settings do not declare, or to none: nothing may leave."""


@dataclass(frozen=True, slots=True)
class Regions:
    """A resource. `look_up` reads the region of the organization that the transaction acts for; guard rails know no
    product table, so the composition root provides it."""

    home: str
    names: tuple[str, ...]
    look_up: Callable[[UnitOfWork], Awaitable[str | None]]
    known: dict[UUID, str] = field(default_factory=dict)

    async def of(self, work: UnitOfWork) -> str:
        """Of the organization that this transaction acts for; home without one. Raises UnknownRegion."""
        if work.tenant is None:
            return self.home
        if (found := self.known.get(work.tenant)) is None:
            found = await self.look_up(work)
            if found not in self.names:
                raise UnknownRegion(f"organization {work.tenant} is in no declared region; see HOME_REGION, REGIONS")
            if len(self.known) >= MOST_KNOWN:
                self.known.clear()
            self.known[work.tenant] = found
        return found


async def region_of(ctx: Context) -> str:
    """The acting organization's region; the home region for what belongs to none. Raises UnknownRegion."""
    return await ctx.resources.get(Regions).of(ctx.work)


async def place(ctx: Context, path: str) -> str:
    """The key under which an object of the acting organization is kept."""
    return in_region(await region_of(ctx), path)


def beside(resources: Resources, key: str, path: str) -> str:
    """The key of what was made from another object: in the same region."""
    return in_region(split_key(key)[0] or resources.get(Regions).home, path)


def at_home(resources: Resources, path: str) -> str:
    """The key of what belongs to a person, not to an organization."""
    return in_region(resources.get(Regions).home, path)
