"""No organization ever sees another's rows: an automatic filter in front, row-level security behind it.

Protects from: the forgotten WHERE (IDOR; ASVS 8.2.2, 8.4.1). How to use: inherit `TenantScoped`; in the migration call
`tenant_table(...)`. Reads and ORM statements are filtered by the acting organization; should a statement slip past the
filter (text, Core, bulk), PostgreSQL's forced policies answer for the role `ballast_app`, which owns nothing and
cannot bypass them. With no organization set, there are no rows.

Limits: tables without a tenant (users, jobs) are listed with a reason in tests/architecture; the maintenance role has
its own policy and is never given to the web process.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, event, false
from sqlalchemy.orm import Mapped, ORMExecuteState, declared_attr, mapped_column, with_loader_criteria
from sqlalchemy.orm.util import LoaderCriteriaOption

from service.core.database import GuardedSession
from service.core.statements import Prepared, context_tenant, read_criteria
from service.guardrails.personal_data import internal


class TenantScoped:
    """Mixin for every table whose rows belong to one organization."""

    @declared_attr
    def organization_id(cls) -> Mapped[UUID]:  # noqa: N805 - SQLAlchemy passes the class
        return mapped_column(ForeignKey("organizations.id"), info=internal("tenant"))


def _filter_orm(state: ORMExecuteState) -> None:
    """Add the tenant to every SELECT, UPDATE and DELETE the ORM runs, aliases, eager and lazy loads included."""
    # Relationship loads too: what was created here, not loaded by a filtered query, hands no filter on to its loaders.
    if state.is_column_load or state.execution_options.get("across_tenants"):
        return
    state.statement = state.statement.options(_criteria_for(state.session.info.get("tenant")))


@lru_cache(maxsize=1024)
def _criteria_for(tenant: UUID | None) -> LoaderCriteriaOption:
    if tenant is None:
        return with_loader_criteria(TenantScoped, lambda _: false(), include_aliases=True)
    return with_loader_criteria(TenantScoped, lambda cls: cls.organization_id == tenant, include_aliases=True)


def _filter_prepared(statement: Prepared) -> LoaderCriteriaOption | None:
    if statement.across_tenants:
        return None

    def belongs(cls: Any) -> Any:
        return cls.organization_id == context_tenant()

    return with_loader_criteria(TenantScoped, belongs, include_aliases=True)


def _stamp_new_rows(session: Any, *_: Any) -> None:
    """A new row belongs to the acting organization; nobody writes the column by hand."""
    tenant = session.info.get("tenant")
    for thing in session.new:
        if isinstance(thing, TenantScoped) and tenant is not None and thing.organization_id is None:
            thing.organization_id = tenant


event.listen(GuardedSession, "do_orm_execute", _filter_orm)
event.listen(GuardedSession, "before_flush", _stamp_new_rows)
read_criteria.append(_filter_prepared)
