"""Whether an address may be saved: looked up once now, and again at each connection (integrations/http.py)."""

from __future__ import annotations

from uuid import UUID

from service.core.context import Context
from service.core.errors import Invalid, Unavailable
from service.integrations.http import AddressRefused, PeerFailed
from service.integrations.webhooks import PORTS, WebhookSender

AT_ONCE = 4
"""Look-ups in one process, each of another organization: whose name server hangs holds neither the others nor more
than these database connections."""
_looking: set[UUID | None] = set()


async def insist_on_reachable(ctx: Context, url: str) -> None:
    """Raises Invalid with what is wrong with the address, Unavailable while others are being looked up."""
    if ctx.organization_id in _looking or len(_looking) >= AT_ONCE:
        raise Unavailable("Other addresses are being looked up.", retry_after=2)
    _looking.add(ctx.organization_id)
    try:
        await ctx.resources.get(WebhookSender).look_up(url)
    except AddressRefused as refused:
        ports = " or ".join(map(str, sorted(PORTS)))
        told = f"must be a public https address on port {ports}: {refused}"
        raise Invalid("We send nothing to this address.", fields={"url": told}) from refused
    except PeerFailed as failed:
        told = f"cannot be found: {failed}. Check the spelling; a new name may need some minutes"
        raise Invalid("The address cannot be found.", fields={"url": told}) from failed
    finally:
        _looking.discard(ctx.organization_id)
