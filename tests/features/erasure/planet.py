"""The fixtures of a world of its own: database, server, SendGrid and Stripe, and no worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from infra.sandbox.mail import MailSink
from infra.sandbox.ports import free_port
from infra.sandbox.sendgrid import PUBLIC_KEY, SendGridKnobs, SendGridStandIn
from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from service.app import close_resources, create_resources
from service.core.regions import MailThrough
from service.core.settings import Settings
from service.guardrails.permissions import Role
from tests.features.erasure.world import World
from tests.support.factories import Factory, Person
from tests.support.servers import RunningServer


@pytest.fixture(scope="module")
def erasure_settings(own_settings: Settings, sendgrid: SendGridStandIn, tmp_path_factory: Any) -> Settings:
    return own_settings.model_copy(
        update={
            "base_url": f"http://127.0.0.1:{free_port()}",
            "mail_through": MailThrough.SENDGRID,
            "sendgrid_api_base": sendgrid.address,
            "sendgrid_webhook_keys": (PUBLIC_KEY,),
            "storage_url": f"file:{tmp_path_factory.mktemp('store')}",
            "redis_namespace": f"{own_settings.redis_namespace}-erasure",
        }
    )


@pytest.fixture(scope="module")
def sendgrid() -> Iterator[SendGridStandIn]:
    with MailSink() as inbox, SendGridStandIn(inbox) as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
async def open_world(
    erasure_settings: Settings,
    sendgrid: SendGridStandIn,
    stripe: StripeStandIn,
    own_superuser: asyncpg.Connection[Any],
) -> AsyncIterator[World]:
    resources = create_resources(erasure_settings, maintenance=True)
    with RunningServer(erasure_settings) as server:
        yield World(resources, own_superuser, Factory(own_superuser, resources, server.url), sendgrid, stripe)
    await close_resources(resources)


@pytest.fixture
def world(open_world: World) -> Iterator[World]:
    """Healthy before and after."""
    yield open_world
    open_world.sendgrid.knobs, open_world.stripe.account.knobs = SendGridKnobs(), StripeKnobs()


@pytest.fixture
async def person(world: World) -> Person:
    """Somebody who belongs to an organization that others own."""
    owner = await world.factory.person(Role.OWNER)
    return await world.factory.person(Role.MEMBER, owner.organization_id)
