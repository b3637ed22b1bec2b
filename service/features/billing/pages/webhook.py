"""Where Stripe's messages arrive."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.features.billing.flows.receive import receive
from service.guardrails.contexts import signed


async def receive_from_stripe(request: Request) -> Response:
    return Response(await receive(await signed(request)), media_type="text/plain")


infrastructure = [
    Route(path, receive_from_stripe, methods=["POST"]) for path in ("/webhooks/stripe/", "/webhooks/stripe")
]
"""Both spellings: a redirect is a failed delivery to Stripe, and after three days of them events are lost.

Plain routes: no person, no limit and no transaction are theirs, and FastAPI's way to a handler took as long as saving.
"""
