"""Reads prepared once: a SELECT built from the models, compiled a single time, run straight on the driver.

Building and compiling a select per call costs more than PostgreSQL needs to answer it. The
automatic filters (tenant, not deleted) are compiled in, so a prepared read is guarded exactly like an ORM one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Uuid, bindparam
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.orm.util import LoaderCriteriaOption

PARAMETER = re.compile(r"(?<!:):([a-z_]+)")
TENANT = "context_tenant"
USER = "context_user"

_dialect: Any = asyncpg_dialect()  # type: ignore[no-untyped-call]

Criteria = Callable[["Prepared"], LoaderCriteriaOption | None]
read_criteria: list[Criteria] = []
"""Filled by the guard rails: what every prepared read is filtered by."""


def context_user() -> Any:
    """A bind parameter that is always the acting user, whatever the caller passes."""
    return bindparam(USER, type_=Uuid())


def context_tenant() -> Any:
    """A bind parameter that is always the acting organization, whatever the caller passes."""
    return bindparam(TENANT, type_=Uuid())


class Prepared:
    """A SELECT with named bind parameters.

    `across_tenants` reads a tenant table without the automatic filter (row-level security still holds);
    `include_deleted` is for the bin. Both are visible at the definition, and listed by an architecture test.
    """

    def __init__(
        self, statement: Select[*tuple[Any, ...]], *, across_tenants: bool = False, include_deleted: bool = False
    ) -> None:
        self.statement = statement
        self.across_tenants = across_tenants
        self.include_deleted = include_deleted
        self._sql = ""
        self._names: tuple[str, ...] = ()
        self._fixed: dict[str, Any] = {}
        self._processors: dict[str, Callable[[Any], Any]] = {}

    def bind(self, values: dict[str, Any], *, tenant: UUID | None, user: UUID | None) -> tuple[str, list[Any]]:
        """The SQL text and its positional arguments; raises KeyError for a parameter nobody gave."""
        if not self._sql:
            self._compile()
        values = {**self._fixed, **values, TENANT: tenant, USER: user}
        processors = self._processors
        if not processors:
            return self._sql, [values[name] for name in self._names]
        return self._sql, [
            processors[name](values[name]) if name in processors else values[name] for name in self._names
        ]

    @property
    def sql(self) -> str:
        if not self._sql:
            self._compile()
        return self._sql

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names in the order of the positional arguments."""
        return self._names if self.sql else ()

    @property
    def constants(self) -> dict[str, Any]:
        """Values that stand in the statement itself, by parameter name."""
        return self._fixed if self.sql else {}

    def _compile(self) -> None:
        options = [option for criteria in read_criteria if (option := criteria(self)) is not None]
        compiled = self.statement.options(*options).compile(dialect=_dialect)
        required = {name for name, bind in compiled.binds.items() if bind.required}
        self._names = tuple(compiled.positiontup or ())
        self._fixed = {name: value for name, value in compiled.params.items() if name not in required}
        processors: Any = compiled._bind_processors  # noqa: SLF001 - the only door to type conversion
        self._processors = {name: processor for name, processor in processors.items() if name in self._names}
        self._sql = str(compiled)


class PreparedText:
    """A statement written by hand, for what the ORM cannot say in one round trip. Named parameters: `:name`.

    Nothing is added to it: it must name its tenant itself (`:context_tenant`), an architecture test insists.
    """

    def __init__(self, sql: str) -> None:
        names: list[str] = []

        def number(match: re.Match[str]) -> str:
            if match[1] not in names:
                names.append(match[1])
            return f"${names.index(match[1]) + 1}"

        self.sql = PARAMETER.sub(number, sql)
        self._names = tuple(names)

    def bind(self, values: dict[str, Any], *, tenant: UUID | None, user: UUID | None) -> tuple[str, list[Any]]:
        values = {**values, TENANT: tenant, USER: user}
        return self.sql, [values[name] for name in self._names]


def prefix(beginning: str) -> dict[str, str]:
    """Parameters `low` and `high` between which lies all that begins so: what LIKE finds, by an index of any kind."""
    return {"low": beginning, "high": f"{beginning}\U0010ffff"}


AnyPrepared = Prepared | PreparedText
