"""Reads of the organization's log. Reading it is itself an event that the log records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import Select, bindparam, func, literal_column, select
from sqlalchemy.orm import aliased

from service.core.context import Context, Resources
from service.core.statements import Prepared
from service.features.accounts.models import User
from service.features.api_keys.models import ApiKey
from service.features.audit_log.schemas import Entry, Filters
from service.guardrails.actions import RULES, query
from service.guardrails.audit import AuditRow, Checked, last_check
from service.guardrails.pagination import Keyset, Page, PageRequest, paginate
from service.guardrails.permissions import Role, Who

BATCH = 500
FOR_WHOM = aliased(User, name="for_whom")
MOST_EXPORTED = 100_000


def _entries(*filters: str) -> Select[*tuple[Any, ...]]:
    statement = select(
        AuditRow.id,
        AuditRow.at,
        AuditRow.action,
        AuditRow.outcome,
        AuditRow.actor_kind,
        AuditRow.actor_id,
        func.coalesce(User.name, ApiKey.name).label("actor_name"),
        AuditRow.on_behalf_of,
        FOR_WHOM.name.label("for_whom"),
        AuditRow.object_type,
        AuditRow.object_id,
        AuditRow.reason,
        AuditRow.address_prefix.label("network"),
        AuditRow.request_id,
        AuditRow.changes,
        AuditRow.facts,
    )
    statement = statement.outerjoin(User, User.id == AuditRow.actor_id)
    statement = statement.outerjoin(ApiKey, ApiKey.id == AuditRow.actor_id)
    statement = statement.outerjoin(FOR_WHOM, FOR_WHOM.id == AuditRow.on_behalf_of)
    for name in filters:
        statement = statement.where(getattr(AuditRow, name) == bindparam(name))
    return statement.where(AuditRow.id >= bindparam("first"), AuditRow.id < bindparam("beyond"))


CHOICES: tuple[tuple[str, ...], ...] = ((), ("action",), ("actor_id",), ("action", "actor_id"))
LIST = {names: Keyset(_entries(*names), order=(AuditRow.id.desc(),)) for names in CHOICES}
EXPORT = {
    names: Prepared(_entries(*names).order_by(AuditRow.id.desc()).limit(literal_column(str(BATCH))))
    for names in CHOICES
}
ENTRIES = TypeAdapter(list[Entry])


@query("audit_log.read", requires=Role.OWNER)
async def list_entries(ctx: Context, wanted: Filters, page: PageRequest) -> Page[Entry]:
    """Newest first."""
    names, values = _split(wanted)
    ctx.note("audit_log.read", "done", **_told(wanted))
    return await paginate(ctx, LIST[names], page, Entry, **values)


@query("audit_log.export", requires=Role.OWNER, while_impersonated=False)
async def export_entries(ctx: Context, wanted: Filters) -> AsyncIterator[list[Entry]]:
    """The same as batches, at most 100,000 entries in all; an empty batch at the end says that there are more."""
    ctx.note("audit_log.export", "done", **_told(wanted))
    return _batches(ctx.resources, ctx.tenant, ctx.user_id, wanted)


@query("audit_log.list_actions", requires=Role.OWNER)
async def list_actions(ctx: Context) -> list[str]:
    """What can be filtered by: every write that somebody does inside an organization."""
    return sorted(
        name
        for name, rule in RULES.items()
        if rule.writes and (isinstance(rule.requires, Role) or rule.requires is Who.SIGNED_IN)
    )


@query("audit_log.read_check", requires=Role.OWNER)
async def get_last_check(ctx: Context) -> Checked | None:
    """Up to when the log was found as it was sealed."""
    return await last_check(ctx)


async def _batches(
    resources: Resources, organization_id: UUID, user_id: UUID, wanted: Filters
) -> AsyncIterator[list[Entry]]:
    """Each batch in a transaction of its own: memory is bounded, and a slow reader holds no connection."""
    names, values = _split(wanted)
    for left in reversed(range(MOST_EXPORTED // BATCH + 1)):
        async with resources.database.unit_of_work(tenant=organization_id, user=user_id, read_only=True) as work:
            rows = await work.fetch(EXPORT[names], **values)
        if rows and not left:
            yield []
            return
        if rows:
            yield ENTRIES.validate_python([dict(row) for row in rows])
        if len(rows) < BATCH:
            return
        values["beyond"] = rows[-1]["id"]


def _split(wanted: Filters) -> tuple[tuple[str, ...], dict[str, Any]]:
    given = {"action": wanted.action, "actor_id": wanted.actor}
    used: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return tuple(used), used | wanted.bounds()


def _told(wanted: Filters) -> dict[str, object]:
    asked = wanted.model_dump(mode="json", exclude_none=True)
    return {"filters": asked} if asked else {}
