"""Puts every outside system that the service talks to among the resources of a process, and takes them down again."""

from __future__ import annotations

from service.core.context import Resources
from service.integrations.http import HttpClient
from service.integrations.identity import IdentityProvider
from service.integrations.mail import Mailer


def provide_integrations(resources: Resources) -> None:
    http = HttpClient(resources.settings)
    resources.provide(HttpClient, http)
    resources.provide(IdentityProvider, IdentityProvider(resources.settings, http))
    resources.provide(Mailer, Mailer(resources.settings))


async def close_integrations(resources: Resources) -> None:
    await resources.get(HttpClient).aclose()
