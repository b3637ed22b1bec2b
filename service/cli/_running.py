"""How a command gets what it works with: the service's resources, a unit of work, the maintenance role."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from typer.core import TyperGroup

from service.core.settings import get_settings

if TYPE_CHECKING:
    from service.core.context import Context, Resources
    from service.core.database import Database

T = TypeVar("T")
NOT_ASKED = 2
"""Exit code: a script that watches for differences must not take an outage for one."""


class Commands(TyperGroup):
    """What is typed in a shell lands in the log and in tables like what is typed into a form."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        from service.guardrails import cards

        for one in args:
            if cards.contains_card(one):
                raise SystemExit(f"{cards.SENTENCE} Nothing was done. {cards.MEND}")
        return super().parse_args(ctx, args)


async def as_system(act: Callable[[Context], Awaitable[T]]) -> T:
    from service.core.context import SYSTEM, Caller, Context

    async def run(resources: Resources) -> T:
        async with resources.database.unit_of_work() as work:
            return await act(Context(work, resources, SYSTEM, Caller("command line")))

    return await with_resources(run)


async def with_resources(use: Callable[[Resources], Awaitable[T]], *, maintenance: bool = False) -> T:
    """Raises SystemExit with one sentence: 1 when we refuse, 2 when Stripe could not be asked."""
    from service.app import close_resources, create_resources
    from service.catalog import load_tables
    from service.core.errors import ServiceError
    from service.integrations.stripe.errors import StripeFailed

    load_tables()
    resources = create_resources(get_settings(), maintenance=maintenance)
    try:
        return await use(resources)
    except ServiceError as error:
        raise SystemExit(f"{error.detail} {error.mend}") from None
    except StripeFailed as error:
        print(error, file=sys.stderr)
        raise SystemExit(NOT_ASKED) from None
    finally:
        await close_resources(resources)


async def as_maintenance(use: Callable[[Database], Awaitable[T]]) -> T:
    from service.core.database import Database

    settings = get_settings()
    database = Database(settings.database_maintenance_url.get_secret_value(), settings, name="cli", size=1)
    try:
        return await use(database)
    finally:
        await database.dispose()
