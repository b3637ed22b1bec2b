"""Mail over SMTP.

Protects from: header injection (the library refuses line breaks), a server that hangs (total deadline), mail in clear
over the internet (production insists on TLS). At least once: a server that took the message and died before saying so
gets it again; the Message-ID stays the same, so that mailboxes can tell.
"""

from __future__ import annotations

import asyncio
import ssl
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from functools import lru_cache
from urllib.parse import unquote, urlsplit

import aiosmtplib
from opentelemetry.trace import SpanKind

from service.core import clock, telemetry
from service.core.regions import Place, by_region
from service.core.settings import Settings
from service.integrations.mail.port import DEADLINE_SECONDS, Mail, MailFailed, MailRefused

REACH = by_region()


@lru_cache(maxsize=1)
def _authorities() -> ssl.SSLContext:
    """Made once: reading the machine's certificates takes longer than sending a mail."""
    return ssl.create_default_context()


class Smtp:
    """One connection per message: mail is rare, and a broken connection is never used again."""

    tells_later = False

    def __init__(self, settings: Settings, place: Place | None = None) -> None:
        parts = urlsplit((place or settings).smtp_url.get_secret_value())
        if parts.scheme not in ("smtp", "smtps"):
            raise ValueError("SMTP_URL must start with smtp:// or smtps://")
        self._host = parts.hostname or "127.0.0.1"
        self._implicit_tls = parts.scheme == "smtps"
        self._port = parts.port or (465 if self._implicit_tls else 587)
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None
        # None lets the library upgrade where the server offers it, which the sandbox does not.
        self._upgrade = False if self._implicit_tls else (True if settings.is_production else None)
        self._tls = _authorities()
        self._sender_name, self._sender = parseaddr(settings.mail_from)
        self._domain = self._sender.rpartition("@")[2] or "localhost"

    async def send(self, mail: Mail) -> None:
        message = self._compose(mail)
        with telemetry.span("send mail", SpanKind.CLIENT, **{"server.address": self._host}):
            try:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await aiosmtplib.send(
                        message,
                        hostname=self._host,
                        port=self._port,
                        username=self._user,
                        password=self._password,
                        use_tls=self._implicit_tls,
                        start_tls=self._upgrade,
                        tls_context=self._tls,
                        timeout=DEADLINE_SECONDS,
                    )
            except (aiosmtplib.SMTPResponseException, aiosmtplib.SMTPRecipientsRefused) as error:
                # Never the server's own words: they often repeat the address.
                code = max(_codes(error), default=0)
                if 500 <= code < 600 and not isinstance(error, aiosmtplib.SMTPAuthenticationError):
                    raise MailRefused(f"the mail server refused the message for good ({code})") from None
                raise MailFailed(f"the mail server cannot take the message now ({code})") from None
            except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
                # The connection may have been cut between the message and the answer to it.
                raise MailFailed(
                    f"the mail server cannot be reached ({type(error).__name__})", doubtful=True
                ) from error

    async def check(self) -> str:
        try:
            _, writer = await asyncio.open_connection(self._host, self._port)
            writer.close()
            await writer.wait_closed()
        except OSError as error:
            raise MailFailed(f"the mail server cannot be reached ({type(error).__name__})") from error
        return "the mail server accepts connections"

    async def forget(self, address: str) -> None:
        """A mail server keeps no list."""

    async def erase(self, address: str) -> str:
        return "a mail relay keeps nothing about an address"

    def _compose(self, mail: Mail) -> EmailMessage:
        message = EmailMessage()
        message["From"] = Address(self._sender_name, addr_spec=self._sender)
        # A single parsed address: "a@x, b@y" in a header would be two recipients.
        message["To"] = Address(addr_spec=mail.to)
        message["Subject"] = mail.subject
        message["Date"] = format_datetime(clock.now())
        message["Message-ID"] = f"<{mail.reference}@{self._domain}>"
        for name, value in mail.headers.items():
            message[name] = value
        message.set_content(mail.text)
        message.add_alternative(mail.html, subtype="html")
        return message


def _codes(error: aiosmtplib.SMTPException) -> list[int]:
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return [one.code for one in error.recipients]
    return [error.code] if isinstance(error, aiosmtplib.SMTPResponseException) else []
