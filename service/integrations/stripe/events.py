"""What an event says about itself, in either of Stripe's two shapes and at any API version.

Only the envelope and a few names are believed, never an amount or a status: those are read from Stripe when they are
needed. Snapshot events carry the object as the endpoint's API version rendered it; thin events (docs.stripe.com/
event-destinations) carry a reference. Both can be on for one change: `snapshot_event_id` ties the thin one to its twin.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

NAME = re.compile(r"\w[\w.\[\]-]{0,254}", re.ASCII)
"""Ids, types and versions; what becomes part of a path or a column. Never a slash, `..`, a space or a NUL."""
LATEST = 253_402_300_799
"""The last second of year 9999, which is the last that a timestamp can hold."""


class EventRefused(Exception):
    """The body is not an event of Stripe's, whoever signed it; never quotes it."""


@dataclass(frozen=True, slots=True)
class StripeEvent:
    """None means that the event does not say, or says something that is no id."""

    id: str
    type: str
    kind: Literal["snapshot", "thin"]
    livemode: bool
    created: datetime
    """Information only: events of one second tie, and the order of delivery is arbitrary."""
    account: str | None
    api_version: str | None
    object_type: str | None
    object_id: str | None
    """None for objects without one, such as an upcoming invoice."""
    customer_id: str | None
    snapshot_event_id: str | None
    request_id: str | None
    status: str | None
    """Believed in one case alone: what has ended does not come back, whatever a late reading says."""
    charge_id: str | None
    """Of a dispute or a refund, which name no customer."""
    client_reference_id: str | None
    metadata_organization_id: str | None
    """A proposal, for a customer whom nobody knows yet: people can edit metadata in Stripe's dashboard."""


def parse(body: bytes) -> StripeEvent:
    """The event in `body`; raises EventRefused, and nothing else, for anything that is not one."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise EventRefused("not JSON") from error
    if not isinstance(found, dict):
        raise EventRefused("not an object")
    if found.get("object") == "event":
        return _snapshot(found)
    if found.get("object") == "v2.core.event":
        return _thin(found)
    raise EventRefused("not an event")


def _snapshot(found: dict[str, Any]) -> StripeEvent:
    data = _dict(found, "data")
    about = _dict(data, "object")
    kind, own_id = _name(about, "object"), _name(about, "id")
    # What was just detached names its customer only among its previous attributes.
    customer = own_id if kind == "customer" else _reference(about) or _reference(_dict(data, "previous_attributes"))
    seconds = found.get("created")
    if type(seconds) is not int or not 0 <= seconds <= LATEST:
        raise EventRefused("no time")
    return StripeEvent(
        **_envelope(found),
        kind="snapshot",
        created=datetime.fromtimestamp(seconds, UTC),
        account=_name(found, "account"),
        api_version=_name(found, "api_version"),
        object_type=kind,
        object_id=own_id,
        customer_id=customer,
        snapshot_event_id=None,
        request_id=_name(_dict(found, "request"), "id"),
        status=_name(about, "status"),
        charge_id=_name(about, "charge") or _name(_dict(about, "charge"), "id"),
        client_reference_id=_name(about, "client_reference_id"),
        metadata_organization_id=_name(_dict(about, "metadata"), "organization_id"),
    )


def _thin(found: dict[str, Any]) -> StripeEvent:
    about = _dict(found, "related_object")
    kind, own_id = _name(about, "type"), _name(about, "id")
    try:
        created = datetime.fromisoformat(found["created"])
        if created.tzinfo is None:
            raise EventRefused("no time zone")
        created = created.astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise EventRefused("no time") from error
    return StripeEvent(
        **_envelope(found),
        kind="thin",
        created=created,
        account=_name(found, "context"),
        api_version=None,
        object_type=kind,
        object_id=own_id,
        customer_id=own_id if kind == "customer" else None,
        snapshot_event_id=_name(found, "snapshot_event"),
        request_id=_name(_dict(_dict(found, "reason"), "request"), "id"),
        status=None,
        charge_id=None,
        client_reference_id=None,
        metadata_organization_id=None,
    )


def _envelope(found: dict[str, Any]) -> dict[str, Any]:
    event_id, event_type, livemode = _name(found, "id"), _name(found, "type"), found.get("livemode")
    if event_id is None or event_type is None or not isinstance(livemode, bool):
        raise EventRefused("no id, type or mode")
    return {"id": event_id, "type": event_type, "livemode": livemode}


def _dict(found: dict[str, Any], name: str) -> dict[str, Any]:
    value = found.get(name)
    return value if isinstance(value, dict) else {}


def _name(found: dict[str, Any], name: str) -> str | None:
    value = found.get(name)
    return value if isinstance(value, str) and NAME.fullmatch(value) else None


def _reference(found: dict[str, Any]) -> str | None:
    """The customer, by id or expanded into the whole object."""
    return _name(found, "customer") or _name(_dict(found, "customer"), "id")
