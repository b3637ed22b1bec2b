"""Messages to addresses that customers chose: signed as standardwebhooks.com says, and never to our own inside.

An address is checked when it is saved (`look_up`) and again at each connection (integrations/http.py): a name that
meanwhile points inside gains nothing. No redirect is followed. Connections are this client's own, so that somebody
else's hanging server keeps nobody waiting who asks through another one.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from math import ceil

from standardwebhooks import Webhook

from service.core import clock
from service.core.regions import everywhere
from service.core.settings import Settings
from service.guardrails.cards import mask
from service.integrations.http import HttpClient

REACH = everywhere("the address that the customer chose")

AT_ONCE = 48
"""Connections of one worker to all customers' servers together."""
PORTS = frozenset({443, 8443})
SECRET_BYTES = 32
RESPONSE_BYTES = 2_048
MORE_BYTES = 256
LONGEST_WAIT = 6 * 3600
"""Seconds that a Retry-After may ask for; a server that says a year means no."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a customer's server said: the beginning of its body, and how long it asks us to wait (seconds)."""

    status: int
    body: str
    retry_after: int | None


def new_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"


class WebhookSender:
    """One per process; a resource."""

    def __init__(self, settings: Settings, ports: frozenset[int] = PORTS) -> None:
        sandbox = [f"http://{host}" for host in settings.webhook_sandbox_hosts]
        self._http = HttpClient(settings, sandbox=sandbox, ports=ports, connections=AT_ONCE)
        self._deadline = settings.webhook_timeout_seconds

    async def look_up(self, url: str) -> None:
        """Raises AddressRefused for what is never asked, PeerFailed for a name without an address."""
        await self._http.look_up(url, deadline=2.0)

    async def send(self, url: str, body: str, message_id: str, keys: Sequence[str]) -> Reply:
        """One attempt, signed with every secret that is valid now; raises PeerFailed."""
        now = clock.now()
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(Webhook(key).sign(message_id, now, body) for key in keys),
        }
        answer = await self._http.send(
            "POST",
            url,
            headers=headers,
            content=body.encode(),
            deadline=self._deadline,
            most_bytes=RESPONSE_BYTES + MORE_BYTES,
            cut=True,
        )
        text = answer.body.decode("utf-8", "replace").replace("\0", "")
        # Masked first: of a card number that was cut off, most digits would be left.
        text = mask(text)[:RESPONSE_BYTES]
        return Reply(answer.status, text, _seconds(answer.headers.get("retry-after", ""), now))

    async def aclose(self) -> None:
        await self._http.aclose()


def _seconds(text: str, now: datetime) -> int | None:
    """Retry-After is a number of seconds or a date (RFC 9110, 10.2.3); anything else says nothing."""
    try:
        wait = int(text) if text.isascii() and text.isdigit() else ceil(_until(text, now))
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0, min(wait, LONGEST_WAIT))


def _until(text: str, now: datetime) -> float:
    return (parsedate_to_datetime(text) - now).total_seconds()
