"""Whether an address may be saved: looked up once now, and again at each connection (integrations/http.py)."""

from __future__ import annotations

import asyncio

from service.core.context import Resources
from service.core.errors import Invalid, Unavailable
from service.integrations.http import AddressRefused, PeerFailed
from service.integrations.webhooks import PORTS, WebhookSender

ROOM = asyncio.Semaphore(2)
"""Look-ups at once in one process: somebody's name server that hangs must not hold every database connection."""


async def insist_on_reachable(resources: Resources, url: str) -> None:
    """Raises Invalid with what is wrong with the address, Unavailable while others are being looked up."""
    if ROOM.locked():
        raise Unavailable("Other addresses are being looked up.", retry_after=2)
    async with ROOM:
        try:
            await resources.get(WebhookSender).look_up(url)
        except AddressRefused as refused:
            ports = " or ".join(map(str, sorted(PORTS)))
            told = f"must be a public https address on port {ports}: {refused}"
            raise Invalid("We send nothing to this address.", fields={"url": told}) from refused
        except PeerFailed as failed:
            told = f"cannot be found: {failed}. Check the spelling; a new name may need some minutes"
            raise Invalid("The address cannot be found.", fields={"url": told}) from failed
