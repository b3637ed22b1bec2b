"""Mail: a port, and the two that can stand behind it (MAIL_THROUGH): any SMTP server, or SendGrid's v3 API.

Sent by jobs only: a request never waits for a provider, and a lost one loses no mail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from service.core.regions import MailThrough, Place, by_region
from service.core.settings import Settings
from service.integrations.http import HttpClient
from service.integrations.mail.port import Mail, Mailer, MailFailed, MailRefused
from service.integrations.mail.sendgrid import SendGrid
from service.integrations.mail.smtp import Smtp

__all__ = ["Mail", "MailFailed", "MailRefused", "Mailer", "Mailers", "mailer_of", "mailers_of"]
REACH = by_region()


@dataclass(frozen=True, slots=True)
class Mailers:
    """A resource: the mail pool of each region."""

    by_region: Mapping[str, Mailer]

    def of(self, region: str) -> Mailer:
        return self.by_region[region]

    def all(self) -> tuple[Mailer, ...]:
        return tuple(self.by_region.values())


def mailers_of(settings: Settings, http: HttpClient) -> Mailers:
    return Mailers({region: mailer_of(settings, http, place) for region, place in settings.places.items()})


def mailer_of(settings: Settings, http: HttpClient, place: Place | None = None) -> Mailer:
    """The provider that a region names; of the home region unless told otherwise."""
    place = place or settings
    through_sendgrid = place.mail_through is MailThrough.SENDGRID
    carrier = SendGrid(settings, http, place) if through_sendgrid else Smtp(settings, place)
    return Mailer(carrier.send, carrier.check, carrier.forget, carrier.erase, carrier.tells_later)
