"""Where snapshots of events go, and the secrets of every endpoint (docs.stripe.com/api/webhook_endpoints)."""

from __future__ import annotations

import time
from math import inf
from typing import Any
from urllib.parse import urlsplit

from infra.sandbox.stripe.paging import page_of
from infra.sandbox.stripe.params import boolean, merge_metadata, required
from infra.sandbox.stripe.records import Endpoint
from infra.sandbox.stripe.store import Account, Obj, StripeError, missing
from infra.sandbox.stripe.wire import Operation

# Stripe lets both secrets sign for as long as somebody asks, up to a day.
LONGEST_OVERLAP = 24 * 3600


def roll(account: Account, endpoint_id: str, overlap: float = LONGEST_OVERLAP) -> str:
    """A new secret for an endpoint; until `overlap` seconds from now the old one signs as well. Answers the new one."""
    with account.lock:
        endpoint = find(account, endpoint_id)
        ends = time.time() + min(max(overlap, 0.0), LONGEST_OVERLAP)
        old = [(secret, min(until, ends)) for secret, until in endpoint.secrets]
        secret = _secret(account)
        endpoint.secrets = [(secret, inf), *old]
        return secret


def add(account: Account, url: str, enabled_events: list[str] | None = None, *, secret: str = "", **more: Any) -> Obj:
    """Register an endpoint from Python; without `enabled_events` it gets everything. Answers with its secret."""
    with account.lock:
        endpoint = Endpoint(
            id=account.new_id("we"),
            url=_checked(url),
            enabled_events=list(enabled_events or ["*"]),
            created=account.now(),
            secrets=[(secret or _secret(account), inf)],
            **more,
        )
        account.endpoints[endpoint.id] = endpoint
        return _shown(endpoint) | {"secret": endpoint.secrets[0][0]}


def find(account: Account, endpoint_id: str) -> Endpoint:
    """Raises Stripe's 404."""
    if endpoint := account.endpoints.get(endpoint_id):
        return endpoint
    raise missing("webhook_endpoint", endpoint_id)


def create(account: Account, params: Obj) -> Obj:
    """The secret is in this answer and in no later one."""
    required(params, "url", "enabled_events")
    obj: Obj = {"metadata": {}}
    merge_metadata(obj, params)
    return add(
        account,
        params["url"],
        params["enabled_events"],
        api_version=params.get("api_version") or None,
        description=params.get("description") or None,
        metadata=obj["metadata"],
    )


def list_(account: Account, params: Obj) -> Obj:
    newest_first = [_shown(one) for one in reversed(account.endpoints.values()) if one.kind == "snapshot"]
    return page_of(newest_first, params, "/v1/webhook_endpoints")


def retrieve(account: Account, params: Obj, object_id: str) -> Obj:
    return _shown(find(account, object_id))


def update(account: Account, params: Obj, object_id: str) -> Obj:
    endpoint = find(account, object_id)
    if "url" in params:
        endpoint.url = _checked(params["url"])
    if params.get("enabled_events"):
        endpoint.enabled_events = list(params["enabled_events"])
    if "description" in params:
        endpoint.description = params["description"] or None
    endpoint.is_enabled = not boolean(params, "disabled", default=not endpoint.is_enabled)
    obj: Obj = {"metadata": endpoint.metadata}
    merge_metadata(obj, params)
    endpoint.metadata = obj["metadata"]
    return _shown(endpoint)


def delete(account: Account, params: Obj, object_id: str) -> Obj:
    """What is still on its way there is given up."""
    endpoint = find(account, object_id)
    endpoint.is_enabled = False
    del account.endpoints[object_id]
    return {"id": object_id, "object": "webhook_endpoint", "deleted": True}


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StripeError("Invalid URL: an endpoint has an absolute http(s) address", code="url_invalid", param="url")
    return url


def _secret(account: Account) -> str:
    return f"whsec_{''.join(account.random.choices('abcdefghijkmnpqrstuvwxyz23456789', k=32))}"


def _shown(endpoint: Endpoint) -> Obj:
    return {
        "id": endpoint.id,
        "object": "webhook_endpoint",
        "api_version": endpoint.api_version,
        "application": None,
        "created": endpoint.created,
        "description": endpoint.description,
        "enabled_events": endpoint.enabled_events,
        "livemode": False,
        "metadata": endpoint.metadata,
        "status": "enabled" if endpoint.is_enabled else "disabled",
        "url": endpoint.url,
    }


OPERATIONS: list[Operation] = [
    ("POST", "/v1/webhook_endpoints", create),
    ("GET", "/v1/webhook_endpoints", list_),
    ("GET", "/v1/webhook_endpoints/{object_id}", retrieve),
    ("POST", "/v1/webhook_endpoints/{object_id}", update),
    ("DELETE", "/v1/webhook_endpoints/{object_id}", delete),
]
