"""An organization with an owner and a member, and news for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from service.core.context import SYSTEM, Caller, Context, Resources
from service.features.notifications.flows import notify
from service.features.notifications.models import KINDS, Kind
from service.guardrails.permissions import Role
from tests.support.factories import Factory, Person

NEWS = KINDS.get("probe_news") or Kind("probe_news", "Something was tried out")

Tell = Callable[..., Awaitable[int]]


@pytest.fixture
async def owner(factory: Factory) -> Person:
    return await factory.person(Role.OWNER)


@pytest.fixture
async def member(factory: Factory, owner: Person) -> Person:
    return await factory.person(Role.MEMBER, owner.organization_id)


@pytest.fixture
def tell(resources: Resources) -> Tell:
    """Tells news as a job would: in the organization, on behalf of nobody."""

    async def run(organization: UUID | None, text: str = "It has happened.", **how: Any) -> int:
        async with resources.database.unit_of_work(tenant=organization) as work:
            ctx = Context(work, resources, SYSTEM, Caller("test"), organization_id=organization)
            return await notify(ctx, how.pop("kind", NEWS), text, href=how.pop("href", "/indicators"), **how)

    return run
