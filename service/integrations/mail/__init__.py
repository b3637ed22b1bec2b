"""Mail: a port, and the two that can stand behind it (MAIL_THROUGH): any SMTP server, or SendGrid's v3 API.

Sent by jobs only: a request never waits for a provider, and a lost one loses no mail.
"""

from __future__ import annotations

from service.core.settings import MailThrough, Settings
from service.integrations.http import HttpClient
from service.integrations.mail.port import Mail, Mailer, MailFailed, MailRefused
from service.integrations.mail.sendgrid import SendGrid
from service.integrations.mail.smtp import Smtp

__all__ = ["Mail", "MailFailed", "MailRefused", "Mailer", "mailer_of"]


def mailer_of(settings: Settings, http: HttpClient) -> Mailer:
    """The provider that the settings name."""
    carrier = SendGrid(settings, http) if settings.mail_through is MailThrough.SENDGRID else Smtp(settings)
    return Mailer(carrier.send, carrier.check, carrier.forget, carrier.tells_later)
