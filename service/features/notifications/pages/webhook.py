"""Where SendGrid's events arrive."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.features.notifications.flows.receive import receive
from service.guardrails.contexts import signed


async def receive_from_sendgrid(request: Request) -> Response:
    return Response(await receive(await signed(request)), media_type="text/plain")


webhooks = [
    Route(path, receive_from_sendgrid, methods=["POST"]) for path in ("/webhooks/sendgrid", "/webhooks/sendgrid/")
]
"""Both spellings, because a redirect is a failed delivery. No person, no limit and no transaction are theirs."""
