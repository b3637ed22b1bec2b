"""Mail through SendGrid's v3 API (twilio.com/docs/sendgrid/api-reference/mail-send).

SendGrid knows no idempotency key: what was sent twice arrives twice. So every failure says whether the message may
have been taken all the same, and every message carries our reference, which SendGrid's events bring back.
"""

from __future__ import annotations

from email.utils import parseaddr
from typing import Any
from urllib.parse import quote

from opentelemetry.trace import SpanKind

from service.core import telemetry
from service.core.insecurities import SENDGRID
from service.core.regions import Place, by_region
from service.core.settings import Settings
from service.guardrails.circuit_breaker import CircuitBreaker, CircuitOpen
from service.integrations.http import Answer, HttpClient, PeerFailed, PeerUnreached
from service.integrations.mail.port import DEADLINE_SECONDS, Mail, MailFailed, MailRefused

REACH = by_region()
REFERENCE = "reference"
"""The custom argument that comes back with each event."""
LISTS = ("suppression/bounces", "suppression/blocks", "suppression/spam_reports", "asm/suppressions/global")
OFF = {"enable": False}


class SendGrid:
    """One HTTPS call per message, behind a breaker."""

    def __init__(self, settings: Settings, http: HttpClient, place: Place) -> None:
        self._http = http
        self._base = place.sendgrid_api_base.rstrip("/") or SENDGRID[0]
        self._key = place.sendgrid_api_key.get_secret_value()
        name, address = parseaddr(settings.mail_from)
        self._sender = {"email": address, "name": name}
        self._breaker = CircuitBreaker("sendgrid", counts=(PeerFailed,))
        self.tells_later = bool(settings.sendgrid_webhook_keys)

    async def send(self, mail: Mail) -> None:
        with telemetry.span("send mail", SpanKind.CLIENT, **{"server.address": self._base}):
            answer = await self._ask("POST", "mail/send", self._message(mail))
        if answer.status not in (200, 202):
            raise _failure(answer.status)

    async def check(self) -> str:
        answer = await self._ask("GET", "scopes")
        if answer.status != 200:
            raise _failure(answer.status)
        if "mail.send" not in answer.json_object().get("scopes", ()):
            raise MailFailed("the key may not send mail: give it the scope mail.send")
        return "SendGrid accepts the key"

    async def forget(self, address: str) -> None:
        for name in LISTS:
            answer = await self._ask("DELETE", f"{name}/{quote(address, safe='')}")
            if answer.status not in (204, 404):
                raise _failure(answer.status)

    async def erase(self, address: str) -> str:
        """Off its lists, and out of its records (twilio.com/docs/sendgrid/api-reference/recipients-data-erasure)."""
        await self.forget(address)
        answer = await self._ask("POST", "recipients/erasejob", {"email_addresses": [address]})
        if answer.status != 202:
            raise _failure(answer.status)
        return f"SendGrid erases it: {str(answer.json_object().get('job_id', ''))[:64]}"

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        headers = {"Authorization": f"Bearer {self._key}"}
        try:
            async with self._breaker:
                answer = await self._http.send(
                    method, f"{self._base}/v3/{path}", headers=headers, json=body, deadline=DEADLINE_SECONDS
                )
                if answer.status >= 500:
                    raise PeerFailed(f"SendGrid answered {answer.status}")
                return answer
        except CircuitOpen as error:
            raise MailFailed(str(error)) from error
        except PeerFailed as error:
            raise MailFailed(str(error), doubtful=not isinstance(error, PeerUnreached)) from error

    def _message(self, mail: Mail) -> dict[str, Any]:
        if any("\n" in text or "\r" in text for text in (mail.to, mail.subject, mail.reference, mail.unsubscribe)):
            raise ValueError("a line break in a header would be a header of its own")
        found: dict[str, Any] = {
            "personalizations": [{"to": [{"email": mail.to}], "custom_args": {REFERENCE: mail.reference}}],
            "from": self._sender,
            "subject": mail.subject,
            # Plain first: SendGrid insists on the order.
            "content": [{"type": "text/plain", "value": mail.text}, {"type": "text/html", "value": mail.html}],
            "headers": mail.headers,
            # A link that leads through SendGrid would show it, and everybody it asks, our one-time links.
            "tracking_settings": {
                "click_tracking": {"enable": False, "enable_text": False},
                "open_tracking": OFF,
                "subscription_tracking": OFF,
            },
        }
        if mail.category:
            found["categories"] = [mail.category]
        if mail.asked_for:
            found["mail_settings"] = {"bypass_list_management": {"enable": True}}
        return found


def _failure(status: int) -> MailFailed:
    """What an answer below 500 means. Never SendGrid's own words: they often repeat the address."""
    if status in (400, 413):
        return MailRefused(f"SendGrid refused the message for good ({status})")
    if status in (401, 403):
        return MailFailed(f"SendGrid does not accept our key or sender for this ({status})")
    return MailFailed(f"SendGrid cannot take the message now ({status})")
