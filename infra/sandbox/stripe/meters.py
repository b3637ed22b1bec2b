"""Usage that is counted: meters, their events and sums (docs.stripe.com/billing/subscriptions/usage-based)."""

from __future__ import annotations

from infra.sandbox.stripe.changes import create
from infra.sandbox.stripe.clock import DAY
from infra.sandbox.stripe.events import emit
from infra.sandbox.stripe.paging import page_of
from infra.sandbox.stripe.params import integer, one_of, required
from infra.sandbox.stripe.renderings import moment_text
from infra.sandbox.stripe.resources import collection
from infra.sandbox.stripe.shapes import fresh
from infra.sandbox.stripe.store import Account, Obj, StripeError
from infra.sandbox.stripe.wire import Operation

OLDEST_SECONDS = 35 * DAY
AHEAD_SECONDS = 300
FORMULAS = ("sum", "count", "last")


def add(account: Account, params: Obj) -> Obj:
    required(params, "display_name", "event_name", "default_aggregation")
    if account.store.of("billing.meter", event_name=params["event_name"], status="active"):
        text = f"An active meter with event name {params['event_name']} already exists."
        raise StripeError(text, code="resource_already_exists", param="event_name")
    mapping = params.get("customer_mapping") or {}
    settings = params.get("value_settings") or {}
    obj = fresh(
        account,
        "billing.meter",
        "mtr",
        customer_mapping={
            "event_payload_key": mapping.get("event_payload_key", "stripe_customer_id"),
            "type": "by_id",
        },
        default_aggregation={"formula": one_of(params["default_aggregation"], "formula", FORMULAS, "")},
        display_name=params["display_name"],
        event_name=params["event_name"],
        event_time_window=params.get("event_time_window"),
        updated=account.now(),
        value_settings={"event_payload_key": settings.get("event_payload_key", "value")},
    )
    return create(account, obj, "billing.meter.created")


def record(account: Account, params: Obj) -> Obj:
    """Accepted at once and judged later, as at Stripe: a customer nobody knows is reported by an event."""
    required(params, "event_name", "payload")
    moment = integer(params, "timestamp", account.now()) or account.now()
    if not account.now() - OLDEST_SECONDS <= moment <= account.now() + AHEAD_SECONDS:
        text = "The timestamp must be within the past 35 calendar days or up to 5 minutes in the future."
        raise StripeError(text, code="timestamp_too_far_in_past", param="timestamp")
    identifier = params.get("identifier") or account.new_id("evtid")
    if account.store.of("billing.meter_event", identifier=identifier):
        text = f"An event already exists with identifier {identifier}."
        raise StripeError(text, code="duplicate_meter_event", param="identifier")
    name, payload = params["event_name"], params["payload"]
    obj = fresh(
        account, "billing.meter_event", "mev", event_name=name, identifier=identifier, payload=payload, timestamp=moment
    )
    account.store.add(obj)
    if problem := _problem(account, obj):
        _report(account, obj, problem)
    return {name: value for name, value in obj.items() if name != "id"}


def summaries(account: Account, params: Obj, object_id: str) -> Obj:
    """One sum for the whole time asked for."""
    required(params, "customer", "start_time", "end_time")
    meter = account.store.get("billing.meter", object_id)
    start, end = integer(params, "start_time") or 0, integer(params, "end_time") or 0
    total = _total(account, meter, params["customer"], start, end)
    summary = fresh(account, "billing.meter_event_summary", "mtrusg", aggregated_value=float(total), meter=object_id)
    summary |= {"start_time": start, "end_time": end}
    return page_of([summary], {}, f"/v1/billing/meters/{object_id}/event_summaries")


def usage(account: Account, price: Obj, customer_id: str, start: int, end: int) -> int:
    """What a metered price counts for one customer in a period."""
    meter = account.store.find(price["recurring"]["meter"])
    return _total(account, meter, customer_id, start, end) if meter else 0


def _total(account: Account, meter: Obj, customer_id: str, start: int, end: int) -> int:
    who, what = meter["customer_mapping"]["event_payload_key"], meter["value_settings"]["event_payload_key"]
    values = [
        int(one["payload"].get(what, 0))
        for one in account.store.of("billing.meter_event", event_name=meter["event_name"])
        if one["payload"].get(who) == customer_id and start <= one["timestamp"] < end and not _problem(account, one)
    ]
    formula = meter["default_aggregation"]["formula"]
    return len(values) if formula == "count" else (values[:1] or [0])[0] if formula == "last" else sum(values)


def _problem(account: Account, event: Obj) -> str:
    found = account.store.of("billing.meter", event_name=event["event_name"], status="active")
    if not found:
        return "no_meter"
    meter = found[0]
    if event["payload"].get(meter["customer_mapping"]["event_payload_key"]) not in account.store.kinds.get(
        "customer", {}
    ):
        return "meter_event_customer_not_found"
    value = str(event["payload"].get(meter["value_settings"]["event_payload_key"], ""))
    return "" if value.lstrip("-").isdecimal() else "meter_event_invalid_value"


def _report(account: Account, event: Obj, problem: str) -> None:
    found = account.store.of("billing.meter", event_name=event["event_name"])
    kind = "v1.billing.meter.error_report_triggered" if found else "v1.billing.meter.no_meter_found"
    subject: Obj = {"id": found[0]["id"] if found else None, "object": "billing.meter"}
    sample = {"error_message": problem.replace("_", " "), "request": {"identifier": event["identifier"]}}
    reason = {"error_count": 1, "error_types": [{"code": problem, "error_count": 1, "sample_errors": [sample]}]}
    when = moment_text(account.now())
    told = {"developer_message_summary": "There is 1 invalid event", "reason": reason}
    emit(account, kind, subject | {"data": told | {"validation_start": when, "validation_end": when}})


OPERATIONS: list[Operation] = [
    ("POST", "/v1/billing/meters", add),
    *collection("billing.meter", "/v1/billing/meters", "status"),
    ("GET", "/v1/billing/meters/{object_id}/event_summaries", summaries),
    ("POST", "/v1/billing/meter_events", record),
]
