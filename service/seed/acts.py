"""What people and staff did in the demo, by the product's own actions: so the log, the mails and the jobs are real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from uuid import UUID

from service.app import close_resources, create_resources
from service.core import clock
from service.core.context import Actor, ActorKind, Caller, Context, Login, Resources
from service.core.features import load
from service.core.settings import Settings
from service.features import FEATURES
from service.features.accounts.actions import delete_account
from service.features.admin.actions import turn_flag, turn_switch
from service.features.billing.flows.demo import subscribe
from service.features.billing.models.plans import TEAM
from service.features.consents.actions import decide, restrict_person, send_news
from service.features.consents.models import PRODUCT_NEWS
from service.features.erasure.actions import ask, enter
from service.features.erasure.flows.arrivals import take_up_deleted
from service.guardrails.feature_flags import Flag
from service.guardrails.switches import Switch


async def act_out(settings: Settings, people: Mapping[str, UUID], subscriber: UUID) -> None:
    """`people` by the first part of their addresses; `subscriber` is the organization that pays."""
    load(FEATURES, "jobs")  # whoever reacts to an action is known here as in the service
    resources = create_resources(settings)
    try:
        await subscribe(resources, subscriber, TEAM.key)
        await _staff(resources, people, subscriber)
        await _people(resources, people)
        await take_up_deleted(resources.database)  # whose thirty days are over; the worker erases them
    finally:
        await close_resources(resources)


async def _staff(resources: Resources, people: Mapping[str, UUID], organization: UUID) -> None:
    """Two of them: what a colleague entered, whoever logs in as staff may check."""
    for on, reason in (
        (True, "Ticket 4690: somebody makes accounts by the hundred"),
        (False, "The addresses are blocked"),
    ):
        async with _acting(resources, people["staff"], staff=True) as ctx:
            await turn_switch(ctx, Switch.STOP_SIGN_UPS, on=on, reason=reason)
    async with _acting(resources, people["staff"], staff=True) as ctx:
        await restrict_person(ctx, "viewer3@ballast.example", "Letter of last month: disputes the address that we hold")
    async with _acting(resources, people["staff"], staff=True) as ctx:
        await turn_flag(ctx, organization, Flag.TILE_RANGE, "on", "Asked to see it before everybody does")
    async with _acting(resources, people["colleague"], staff=True) as ctx:
        await enter(ctx, "viewer2@ballast.example", "Letter of last week, ticket 4711")


async def _people(resources: Resources, people: Mapping[str, UUID]) -> None:
    """One agrees to news, and gets some; one leaves and may come back, one wants to be forgotten tomorrow."""
    async with _acting(resources, people["owner"]) as ctx:
        await decide(ctx, PRODUCT_NEWS.name, yes=True, version=PRODUCT_NEWS.version)
    async with _acting(resources, people["staff"], staff=True) as ctx:
        text = "Exchange rates, GitHub and Plausible are asked every hour: connect one under Sources."
        await send_news(ctx, "Sources bring figures by themselves", text, "Release of this month")
    async with _acting(resources, people["left"]) as ctx:
        await delete_account(ctx, "left@ballast.example")
    async with _acting(resources, people["tomorrow"]) as ctx:
        await ask(ctx, "tomorrow@ballast.example")


@asynccontextmanager
async def _acting(resources: Resources, person: UUID, *, staff: bool = False) -> AsyncIterator[Context]:
    """As if they had just logged in; nobody gets a session by it."""
    now = clock.now()
    login = Login("seed", person, None, now, now, ("password", "totp"), epoch=0, csrf="")
    actor = Actor(ActorKind.STAFF if staff else ActorKind.USER, person)
    async with resources.database.unit_of_work(user=person, staff=staff) as work:
        yield Context(work, resources, actor, Caller("demo"), login=login)
