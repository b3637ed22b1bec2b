"""A world of its own whose mail goes through SendGrid: a database, a server, no worker. Nothing moves by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from infra.sandbox.mail import MailSink
from infra.sandbox.ports import free_port
from infra.sandbox.sendgrid import PUBLIC_KEY, SendGridKnobs, SendGridStandIn
from service.app import close_resources, create_resources
from service.core.regions import MailThrough
from service.core.settings import Settings
from tests.features.notifications.office import Office
from tests.support.factories import Factory, Person
from tests.support.servers import RunningServer


@pytest.fixture(scope="module")
def sendgrid() -> Iterator[SendGridStandIn]:
    with MailSink() as inbox, SendGridStandIn(inbox) as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def office_settings(own_settings: Settings, sendgrid: SendGridStandIn) -> Settings:
    return own_settings.model_copy(
        update={
            "base_url": f"http://127.0.0.1:{free_port()}",
            "mail_through": MailThrough.SENDGRID,
            "sendgrid_api_base": sendgrid.address,
            "sendgrid_webhook_keys": (PUBLIC_KEY,),
        }
    )


@pytest.fixture(scope="module")
async def open_office(
    office_settings: Settings, sendgrid: SendGridStandIn, own_superuser: asyncpg.Connection[Any]
) -> AsyncIterator[Office]:
    resources = create_resources(office_settings)
    with RunningServer(office_settings) as server:
        factory = Factory(own_superuser, resources, server.url)
        yield Office(sendgrid, resources, own_superuser, factory, server.url)
    await close_resources(resources)


@pytest.fixture
def office(open_office: Office) -> Iterator[Office]:
    """Healthy, and silent: events are told by hand unless the test sets `webhook_url`."""
    open_office.sendgrid.webhook_url, open_office.sendgrid.knobs = "", SendGridKnobs()
    yield open_office
    open_office.sendgrid.webhook_url, open_office.sendgrid.knobs = "", SendGridKnobs()
    open_office.sendgrid.spared.clear()


@pytest.fixture
async def reader(office: Office) -> Person:
    return await office.factory.person()
