"""What happened, in whichever organization: the audit log as staff search it."""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any

from sqlalchemy import Select, bindparam, literal_column, select

from service.core.context import Context
from service.core.statements import Prepared
from service.features.admin.schemas import EventRead, EventsWanted
from service.guardrails.actions import query
from service.guardrails.audit import AuditRow
from service.guardrails.pagination import Keyset, Page, Position, paginate
from service.guardrails.permissions import Who

ON_A_PAGE = 30
NAMES = tuple(EventsWanted.model_fields)

_events = select(
    AuditRow.id, AuditRow.at, AuditRow.action, AuditRow.outcome, AuditRow.actor_kind, AuditRow.actor_id,
    AuditRow.organization_id, AuditRow.object_type, AuditRow.object_id, AuditRow.reason,
    AuditRow.address_prefix.label("network"),
)  # fmt: skip


def _of(names: tuple[str, ...]) -> Keyset:
    statement: Select[*tuple[Any, ...]] = _events
    for name in names:
        statement = statement.where(getattr(AuditRow, name) == bindparam(name))
    return Keyset(statement, order=(AuditRow.id.desc(),), across_tenants=True)


EVENTS = {names: _of(names) for names in chain.from_iterable(combinations(NAMES, n) for n in range(len(NAMES) + 1))}


def _newest(condition: Any) -> Prepared:
    ordered = _events.where(condition).order_by(AuditRow.id.desc()).limit(literal_column(str(ON_A_PAGE)))
    return Prepared(ordered, across_tenants=True)


BY_PERSON = _newest(AuditRow.actor_id == bindparam("id"))
TO_PERSON = _newest(AuditRow.object_id == bindparam("id"))


@query("admin.list_events", requires=Who.STAFF)
async def list_events(ctx: Context, wanted: EventsWanted, page: Position) -> Page[EventRead]:
    """Newest first; of one person, one record, one organization, or any of these together."""
    values = wanted.model_dump(exclude_none=True)
    return await paginate(ctx, EVENTS[tuple(name for name in NAMES if name in values)], page, EventRead, **values)
