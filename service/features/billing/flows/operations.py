"""Making a planned call: freeze its bytes, commit, send, settle. Whatever dies in between leaves a row that tells.

    planned -> in_flight -> succeeded
                         -> failed     Stripe said no, or nothing was sent and a person waits
                         -> unknown    no answer: the same bytes under the same key find out what became of it

A stored 500 is replayed by Stripe for a day, and after a day a key is a new request; in both cases the state is read
before anything is done again (https://docs.stripe.com/api/idempotent_requests).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from service.core import clock
from service.core.context import Resources
from service.core.database import Database, UnitOfWork
from service.core.ids import new_id
from service.core.logging import get_logger
from service.features.billing.actions.marks import tie
from service.features.billing.flows.requests import Impossible, build, happened, price_of
from service.features.billing.flows.synchronize import synchronize_now
from service.features.billing.models import BillingCustomer, Kind, Operation, Status
from service.features.billing.models.customer import living_in
from service.features.billing.models.operation import OPEN, PAGES
from service.guardrails.jobs.runner import where
from service.integrations.stripe.client import StripeApi
from service.integrations.stripe.errors import StripeAway, StripeFailed, StripeMisconfigured, StripeRefused

log = get_logger()

IN_FLIGHT_SECONDS = 40
OTHERS_TURN_SECONDS = 10.0
"""How long a request waits for the customer that somebody else is making."""
KEY_LIFETIME = timedelta(hours=23)
SAME_500 = 3
"""Answers of 500 to the same bytes after which the state is read: Stripe keeps a 500 under its key, too."""
PATIENT = (Kind.SEATS, Kind.CANCEL_NOW, Kind.CUSTOMER)
"""Nobody waits in front of these, so they are tried until Stripe is back; a person is told, and may click again."""
DUE = """
    SELECT id, organization_id FROM billing_operations
    WHERE status IN ('planned', 'in_flight', 'unknown') AND next_attempt_at <= now()
    ORDER BY next_attempt_at LIMIT 20
"""
LATER = "UPDATE billing_operations SET next_attempt_at = greatest(next_attempt_at, $2) WHERE id = $1"


@dataclass(frozen=True, slots=True)
class Outcome:
    status: Status
    url: str | None = None
    error_code: str | None = None


async def perform(resources: Resources, organization_id: UUID, operation_id: UUID) -> Outcome:
    """Make the call of one operation, or find out what became of it; then bring our copy up to date."""
    try:
        operation = await _freeze(resources, organization_id, operation_id)
    except (StripeFailed, Impossible) as error:
        return await _settle_failure(resources, organization_id, operation_id, error)
    if operation is None:
        return await outcome_of(resources, organization_id, operation_id)
    try:
        thing = await _send(resources.get(StripeApi), operation)
    except StripeFailed as error:
        return await _settle_failure(resources, organization_id, operation_id, error)
    return await _settle_success(resources, operation, thing)


async def perform_due(resources: Resources, maintenance: Database) -> int:
    """One round of the worker over what is open and due; how many there were."""
    async with maintenance.connection() as connection:
        due = await UnitOfWork(connection).raw.fetch(DUE)
    for row in due:
        try:
            await perform(resources, row["organization_id"], row["id"])
        except Exception as error:  # a mistake of ours in one must not keep everybody else's from being made
            log.error("operation waits", operation=str(row["id"]), error=type(error).__name__, where=where(error))
            async with resources.database.unit_of_work(tenant=row["organization_id"]) as work:
                await work.raw.execute(LATER, row["id"], clock.now() + timedelta(seconds=10))
    return len(due)


async def ensure_customer(resources: Resources, organization_id: UUID) -> None:
    """Make the organization's customer at Stripe unless it has a living one; two tabs at once make the same one.

    Raises StripeFailed.
    """
    settings = resources.settings
    mine = select(BillingCustomer.deleted_at).where(
        BillingCustomer.organization_id == organization_id, BillingCustomer.livemode == settings.stripe_livemode
    )
    async with resources.database.unit_of_work(tenant=organization_id) as work:
        ends = list((await work.session.execute(mine)).scalars())
        if None in ends:
            return
        # One for each customer that is gone and each try that failed for good, or nobody here could ever pay again.
        failed = select(func.count()).where(Operation.kind == Kind.CUSTOMER, Operation.status == Status.FAILED)
        number = len(ends) + (await work.session.scalar(failed) or 0)
        identifier, intent = new_id(), f"customer:{settings.stripe_livemode}:{number}".lower()
        values = {
            "id": identifier, "organization_id": organization_id, "kind": Kind.CUSTOMER, "intent": intent, "wish": {},
            "actor": "system", "idempotency_key": f"ballast:customer:{identifier}",
        }  # fmt: skip
        await work.session.execute(insert(Operation).values(values).on_conflict_do_nothing())
        operation_id = (await work.session.execute(select(Operation.id).where(Operation.intent == intent))).scalar_one()
    outcome = await perform(resources, organization_id, operation_id)
    until, attempt = time.monotonic() + OTHERS_TURN_SECONDS, 1
    while outcome.status in OPEN and time.monotonic() < until:
        # Another tab or a worker is at it; whoever gave up here told a person that Stripe is away. And one 500, which
        # Stripe repeats for its key, would refuse the next three clicks too: here its key is used up at once.
        at_it = outcome.status is Status.IN_FLIGHT
        if not at_it and outcome.error_code not in ("server_error", "connection"):
            break
        await asyncio.sleep(0.1 * 2**attempt)
        attempt += 1
        with structlog.contextvars.bound_contextvars(attempt=attempt):
            outcome = await (outcome_of if at_it else perform)(resources, organization_id, operation_id)
    if outcome.status is not Status.SUCCEEDED:
        raise StripeAway("customer", sent=False)


async def outcome_of(resources: Resources, organization_id: UUID, operation_id: UUID) -> Outcome:
    async with resources.database.unit_of_work(tenant=organization_id, read_only=True) as work:
        row = (await work.session.execute(select(Operation).where(Operation.id == operation_id))).scalar_one()
        return Outcome(row.status, row.result_url, row.error_code)


async def _freeze(resources: Resources, organization_id: UUID, operation_id: UUID) -> Operation | None:
    """Take the operation and write down its exact request; None when it is settled or somebody else is at it."""
    api = resources.get(StripeApi)
    async with resources.database.unit_of_work(tenant=organization_id, read_only=True) as work:
        seen = (await work.session.execute(select(Operation).where(Operation.id == operation_id))).scalar_one()
    price = ""
    if seen.status in OPEN and seen.params is None:
        if seen.kind in PAGES:
            await ensure_customer(resources, organization_id)
        if "plan" in seen.wish:
            price = await price_of(api, seen.wish["plan"])
        if seen.kind is Kind.CHECKOUT:
            await _expire_earlier_session(resources, seen)
    async with resources.database.unit_of_work(tenant=organization_id) as work:
        operation, now = await _lock(work, operation_id), clock.now()
        busy = operation.status is Status.IN_FLIGHT and operation.next_attempt_at > now
        if operation.status not in OPEN or busy:
            return None
        if operation.params is None:
            request = await build(resources, work, operation, price)
            operation.method, operation.path, operation.params = request.method, request.path, request.params
            operation.first_sent_at = now
        operation.status, operation.attempts = Status.IN_FLIGHT, operation.attempts + 1
        operation.next_attempt_at = now + timedelta(seconds=IN_FLIGHT_SECONDS)
        return operation


async def _send(api: StripeApi, operation: Operation) -> dict[str, Any]:
    """The frozen bytes under the frozen key; or, where those can tell nothing any more, a look at the state."""
    assert operation.first_sent_at is not None and operation.path is not None  # noqa: S101, PT018 - frozen above
    too_old = clock.now() - operation.first_sent_at > KEY_LIFETIME
    stuck = operation.error_code == "server_error" and operation.attempts > SAME_500
    if too_old or stuck:
        if (found := await happened(api, operation)) is not None:
            return {"id": found}
        raise StripeRefused(409, "expired" if too_old else "server_error")
    return await api.patiently(operation.method or "", operation.path, operation.params, key=operation.idempotency_key)


async def _settle_success(resources: Resources, operation: Operation, thing: dict[str, Any]) -> Outcome:
    organization_id = operation.organization_id
    async with resources.database.unit_of_work(tenant=organization_id) as work:
        row = await _lock(work, operation.id)
        row.status, row.settled_at, row.error_code = Status.SUCCEEDED, clock.now(), None
        row.result_id, row.result_url = thing.get("id"), thing.get("url")
        if row.kind is Kind.CUSTOMER:
            await tie(work, organization_id, str(thing["id"]), livemode=resources.settings.stripe_livemode)
    if row.kind not in (Kind.CUSTOMER, *PAGES):
        # Now, not when the webhook comes: the page that is shown next must already be right.
        await _catch_up(resources, organization_id)
    return Outcome(row.status, row.result_url)


async def living_customer(resources: Resources, organization_id: UUID) -> UUID | None:
    living = select(BillingCustomer.id).where(*living_in(organization_id, resources.settings.stripe_livemode))
    async with resources.database.unit_of_work(tenant=organization_id, read_only=True) as work:
        found: UUID | None = await work.session.scalar(living)
        return found


async def _catch_up(resources: Resources, organization_id: UUID) -> None:
    if (customer := await living_customer(resources, organization_id)) is not None:
        await synchronize_now(resources, customer)


async def _settle_failure(
    resources: Resources, organization_id: UUID, operation_id: UUID, error: StripeFailed | Impossible
) -> Outcome:
    async with resources.database.unit_of_work(tenant=organization_id) as work:
        row = await _lock(work, operation_id)
        if row.status not in OPEN:
            return Outcome(row.status, row.result_url, row.error_code)
        row.error_code = code_of(error)
        if row.kind in PATIENT and row.error_code in ("expired", "server_error") and isinstance(error, StripeRefused):
            # It did not happen, and its key is used up: the wish is as true as before, so it is asked for anew.
            row.params, row.first_sent_at, row.attempts = None, None, 0
            row.status, row.idempotency_key = Status.PLANNED, f"ballast:{row.kind}:{new_id()}"
            row.next_attempt_at = clock.now() + timedelta(seconds=3)
            return Outcome(row.status, error_code=row.error_code)
        pause = min(timedelta(minutes=10), timedelta(seconds=1) * float(2 ** min(row.attempts - 1, 10)))
        row.next_attempt_at = clock.now() + pause
        sent = row.status is Status.UNKNOWN or (row.status is Status.IN_FLIGHT and row.attempts > 1)
        # Stripe would repeat its 500 for this key, and a page that nobody was sent to does no harm: ask for another.
        spent = row.kind in PAGES and row.error_code == "server_error"
        # Without bytes there was nothing to send: what failed was a question asked beforehand.
        if isinstance(error, StripeAway) and row.params is not None and (error.sent or sent) and not spent:
            row.status = Status.UNKNOWN
        elif isinstance(error, StripeAway | StripeMisconfigured) and row.kind in PATIENT:
            row.status = Status.PLANNED
        else:
            row.status, row.settled_at = Status.FAILED, clock.now()
        log.warning("billing operation", operation=str(row.id), kind=row.kind, status=row.status, error=row.error_code)
        return Outcome(row.status, error_code=row.error_code)


def code_of(error: StripeFailed | Impossible) -> str:
    """A short word for the page, the row and the log; never Stripe's sentence, which may quote a person."""
    if isinstance(error, StripeRefused):
        return (error.decline_code or error.code or "refused")[:64]
    if isinstance(error, StripeAway):
        return error.reason
    return str(error)[:64] if isinstance(error, Impossible) else "misconfigured"


async def _lock(work: UnitOfWork, operation_id: UUID) -> Operation:
    return (
        await work.session.execute(select(Operation).where(Operation.id == operation_id).with_for_update())
    ).scalar_one()


async def _expire_earlier_session(resources: Resources, operation: Operation) -> None:
    """One open Checkout page per organization: two that are both paid are two subscriptions."""
    yesterday = clock.now() - timedelta(hours=24)
    async with resources.database.unit_of_work(tenant=operation.organization_id, read_only=True) as work:
        earlier = (
            select(Operation.result_id)
            .where(Operation.kind == Kind.CHECKOUT, Operation.status == Status.SUCCEEDED)
            .where(Operation.created_at > yesterday)
            .order_by(Operation.id.desc())  # each closes the one before it
        )
        session = await work.session.scalar(earlier.limit(1))
    if session is None:
        return
    try:
        # Without a key, under which Stripe would keep a 500 for a day, and nobody could buy anything until then.
        await resources.get(StripeApi).patiently("post", f"/v1/checkout/sessions/{session}/expire")
    except StripeRefused:  # expired by itself, or paid: then our copy has to know, before anybody pays a second time
        await _catch_up(resources, operation.organization_id)
