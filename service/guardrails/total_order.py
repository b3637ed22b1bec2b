"""Proves, when a list is defined, that its order has no ties and no NULLs: keyset pagination would skip those rows.

Part of `guardrails.pagination`; nothing else needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BinaryExpression,
    BindParameter,
    Column,
    ColumnElement,
    Index,
    Null,
    PrimaryKeyConstraint,
    Select,
    Table,
    UnaryExpression,
    UniqueConstraint,
)
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BooleanClauseList

READERS: dict[type, Callable[[str], Any]] = {
    datetime: datetime.fromisoformat, date: date.fromisoformat, UUID: UUID, int: int, str: str, Decimal: Decimal,
}  # fmt: skip
"""How a key value is read back from a cursor, by the column's type; `str` wrote it."""


def read_order(order: Sequence[Any]) -> tuple[list[Column[Any]], bool]:
    """The order's columns and whether they descend; mixed directions have no row comparison, so they are refused."""
    columns, directions = [], set()
    for element in order:
        expression = element.__clause_element__() if hasattr(element, "__clause_element__") else element
        descending = False
        if isinstance(expression, UnaryExpression) and expression.modifier in (operators.desc_op, operators.asc_op):
            descending, expression = expression.modifier is operators.desc_op, expression.element
        if not isinstance(expression, Column) or expression.type.python_type not in READERS:
            kinds = ", ".join(kind.__name__ for kind in READERS)
            raise TypeError(f"a keyset orders by table columns of type {kinds}; {expression} is not one")
        columns.append(expression)
        directions.add(descending)
    if len(directions) != 1:
        raise TypeError("a keyset needs an order, with all columns in the same direction: all .asc() or all .desc()")
    return columns, directions.pop()


def insist_on_total_order(
    statement: Select[*tuple[Any, ...]], columns: list[Column[Any]], across_tenants: bool
) -> None:
    equal, present = _fixed_by(statement.whereclause)
    for column in columns:
        if column.nullable and not any(column.compare(other) for other in present):
            raise TypeError(f"{column} may be NULL and NULL has no place in an order: add .where({column} IS NOT NULL)")
    last = columns[-1]
    table = last.table
    known = {column.name for column in (*columns, *equal) if column.table is table}
    if not across_tenants:
        known.add("organization_id")  # the automatic filter sets it
    base = next(iter(last.base_columns)).table
    if not any(last.name in unique and unique <= known for unique in _unique_keys(base)):
        raise TypeError(f"rows may be equal in this order and be skipped: end it with a unique column, not with {last}")


def _unique_keys(table: Any) -> list[set[str]]:
    if not isinstance(table, Table):
        return []
    keys = [key.columns for key in table.constraints if isinstance(key, PrimaryKeyConstraint | UniqueConstraint)]
    indexes = [index.columns for index in table.indexes if index.unique and _is_total(index)]
    return [{column.name for column in columns} for columns in (*keys, *indexes)]


def _is_total(index: Index) -> bool:
    """Over all rows, and over columns: unique lower(name) says nothing about name."""
    return index.dialect_options["postgresql"]["where"] is None and len(index.columns) == len(index.expressions)


def _fixed_by(condition: ColumnElement[bool] | None) -> tuple[list[Column[Any]], list[Column[Any]]]:
    """Columns that the list's condition sets equal to a parameter, and those it says are not NULL."""
    joined = isinstance(condition, BooleanClauseList) and condition.operator is operators.and_
    terms: Sequence[Any] = condition.clauses if joined else [condition]  # type: ignore[union-attr]
    equal, present = [], []
    for term in terms:
        if isinstance(term, BinaryExpression) and isinstance(term.left, Column):
            if term.operator is operators.eq and isinstance(term.right, BindParameter):
                equal.append(term.left)
            if term.operator is operators.is_not and isinstance(term.right, Null):
                present.append(term.left)
    return equal, present


def with_keys(
    statement: Select[*tuple[Any, ...]], columns: list[Column[Any]]
) -> tuple[Select[*tuple[Any, ...]], list[int]]:
    """The statement with every order column among its columns, and where in a row each of them stands."""
    positions = []
    for column in columns:
        selected = list(statement.selected_columns)
        at = next((at for at, other in enumerate(selected) if column.compare(other)), len(selected))
        if at == len(selected):
            statement = statement.add_columns(column)
        positions.append(at)
    return statement, positions
