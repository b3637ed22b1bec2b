"""Where thin events go: destinations of version 2 of the API (docs.stripe.com/api/v2/core/event-destinations)."""

from __future__ import annotations

from infra.sandbox.stripe import endpoints
from infra.sandbox.stripe.params import required
from infra.sandbox.stripe.records import Endpoint
from infra.sandbox.stripe.renderings import moment_text
from infra.sandbox.stripe.store import Account, Obj, StripeError
from infra.sandbox.stripe.wire import API_VERSION, Operation


def create(account: Account, params: Obj) -> Obj:
    """Thin or snapshot, to a webhook; the secret is shown to those who `include` it."""
    required(params, "name", "enabled_events", "event_payload", "type")
    if params["type"] != "webhook_endpoint":
        raise StripeError("The stand-in knows destinations of type webhook_endpoint", param="type")
    given = endpoints.add(
        account,
        (params.get("webhook_endpoint") or {}).get("url", ""),
        params["enabled_events"],
        kind="thin" if params["event_payload"] == "thin" else "snapshot",
        name=params["name"],
        api_version=params.get("snapshot_api_version"),
        description=params.get("description"),
    )
    shown = _shown(account.endpoints[given["id"]])
    if "webhook_endpoint.signing_secret" in params.get("include", []):
        shown["webhook_endpoint"] = {"signing_secret": given["secret"], "url": given["url"]}
    return shown


def list_(account: Account, params: Obj) -> Obj:
    data = [_shown(one) for one in reversed(account.endpoints.values())]
    return {"data": data, "next_page_url": None, "previous_page_url": None}


def delete(account: Account, params: Obj, object_id: str) -> Obj:
    endpoints.delete(account, params, object_id)
    return {"id": object_id, "object": "v2.core.event_destination"}


def _shown(endpoint: Endpoint) -> Obj:
    created = moment_text(endpoint.created)
    return {
        "id": endpoint.id,
        "object": "v2.core.event_destination",
        "created": created,
        "description": endpoint.description or "",
        "enabled_events": endpoint.enabled_events,
        "event_payload": endpoint.kind,
        "events_from": ["@self"],
        "livemode": False,
        "metadata": endpoint.metadata,
        "name": endpoint.name,
        "snapshot_api_version": (endpoint.api_version or API_VERSION) if endpoint.kind == "snapshot" else None,
        "status": "enabled" if endpoint.is_enabled else "disabled",
        "status_details": None,
        "type": "webhook_endpoint",
        "updated": created,
    }


OPERATIONS: list[Operation] = [
    ("POST", "/v2/core/event_destinations", create),
    ("GET", "/v2/core/event_destinations", list_),
    ("DELETE", "/v2/core/event_destinations/{object_id}", delete),
]
