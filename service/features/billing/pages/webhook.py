"""Where Stripe's messages arrive."""

from __future__ import annotations

from fastapi import Response

from service.features.billing.flows.receive import receive
from service.features.billing.pages._shared import router
from service.guardrails.contexts import SignedCtx


@router.post("/webhooks/stripe")
@router.post("/webhooks/stripe/")
async def receive_from_stripe(signed: SignedCtx) -> Response:
    """Both spellings: a redirect is a failed delivery to Stripe, and after three days of them events are lost."""
    return Response(await receive(signed), media_type="text/plain")
