"""One event in the shapes that endpoints ask for: thin, or as an older version of the API would show it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from infra.sandbox.stripe.records import is_only_thin, thin_type

Shape = dict[str, Any]
# docs.stripe.com/changelog/basil: the period moved to the items, and an invoice's subscription to its parent.
BASIL = "2025-03-31"
PERIOD = ("current_period_start", "current_period_end")
PATHS = {
    "checkout.session": "checkout/sessions",
    "billing_portal.session": "billing_portal/sessions",
    "billing.meter": "billing/meters",
    "entitlements.active_entitlement_summary": "entitlements/active_entitlements",
}
THIN_PREFIX = "evt_test_"


def moment_text(seconds: int) -> str:
    """A time as version 2 of the API writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def thin_id(event_id: str) -> str:
    """The id of an event's thin twin."""
    return THIN_PREFIX + event_id.removeprefix("evt_")


def snapshot_id(event_id: str) -> str:
    """The id of the snapshot that a thin event belongs to; any other id is left as it is."""
    return f"evt_{event_id.removeprefix(THIN_PREFIX)}" if event_id.startswith(THIN_PREFIX) else event_id


def thin(event: Shape) -> Shape:
    """The notification: what changed and where to read it, nothing more (docs.stripe.com/event-destinations)."""
    obj, request = event["data"]["object"], event["request"]
    kind = obj.get("object")
    related = None
    if kind and obj.get("id"):
        path = PATHS.get(kind, f"{kind.replace('.', '/')}s")
        related = {"id": obj["id"], "type": kind, "url": f"/v1/{path}/{obj['id']}"}
    return {
        "id": thin_id(event["id"]),
        "object": "v2.core.event",
        "type": thin_type(event["type"]),
        "created": moment_text(event["created"]),
        "livemode": event["livemode"],
        "context": None,
        "reason": {"type": "request", "request": request} if request["id"] else None,
        "related_object": related,
        "snapshot_event": None if is_only_thin(event["type"]) else event["id"],
    }


def thin_in_full(event: Shape) -> Shape:
    """What `/v2/core/events` adds to the notification: the values before and after, or what has no snapshot."""
    if is_only_thin(event["type"]):
        return thin(event) | {"data": event["data"]["object"].get("data")}
    before = event["data"].get("previous_attributes")
    if before is None:
        return thin(event)
    after = {name: event["data"]["object"].get(name) for name in before}
    return thin(event) | {"changes": {"before": before, "after": after}}


def in_version(event: Shape, version: str) -> Shape:
    """The event as an endpoint pinned to this version receives it."""
    if version[:10] >= BASIL:
        return event | {"api_version": version}
    data = event["data"]
    shown = {"object": _old(data["object"], data["object"])}
    if "previous_attributes" in data:
        shown["previous_attributes"] = _old(data["previous_attributes"], data["object"])
    return event | {"api_version": version, "data": shown}


def _old(obj: Shape, whole: Shape) -> Shape:
    kind = whole.get("object")
    if kind == "subscription":
        return _old_subscription(obj)
    return _old_invoice(obj) if kind == "invoice" else obj


def _old_subscription(obj: Shape) -> Shape:
    if "items" not in obj:
        return obj
    items = obj["items"]["data"]
    lifted = {name: items[0][name] for name in PERIOD if items and name in items[0]}
    plain = [{name: value for name, value in item.items() if name not in PERIOD} for item in items]
    old = obj | lifted | {"items": obj["items"] | {"data": plain}}
    old.pop("billing_mode", None)
    return old


def _old_invoice(obj: Shape) -> Shape:
    old = {name: value for name, value in obj.items() if name != "parent"}
    if "parent" in obj:
        details = (obj["parent"] or {}).get("subscription_details") or {}
        old["subscription"] = details.get("subscription")
    if "status" in obj:
        old["paid"] = obj["status"] == "paid"
    return old
