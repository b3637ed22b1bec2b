"""Every secret is hashed or sealed, every sealed column is in the rotation, and nobody seals by hand or searches."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import Column, Index, Integer, LargeBinary, MetaData, String, Table, UniqueConstraint

from service.core.database import Base
from service.guardrails.personal_data import Protection, internal, protection_of, secret
from service.guardrails.sealed import hashed, key_index, row_names, sealed, sealed_columns
from tests.architecture.conftest import SERVICE
from tests.architecture.test_sources import found_in, is_call_of

SEALED, HASHED = 6, 6
HARMLESS = {"is_", "is_not", "label"}
BY_HAND = {
    SERVICE / "core" / "crypto.py",
    SERVICE / "guardrails" / "sealed.py",
    SERVICE / "guardrails" / "resealing.py",
}


def open_secrets(metadata: MetaData) -> list[str]:
    return [
        f"{column} opens a door: say info=sealed(secret()), or hashed(secret()) if it is only compared"
        for table in metadata.tables.values()
        for column in table.columns
        if protection_of(column) is Protection.SECRET and not column.info.keys() & {"sealed", "hashed"}
    ]


def unfit(metadata: MetaData) -> list[str]:
    """What would keep a sealed column out of the rotation, or make somebody search in it."""
    found = []
    for column in sealed_columns(metadata):
        table, key = column.table, f"ix_{column.table.name}_{column.name}_key"
        if not isinstance(column.type, LargeBinary):
            found.append(f"{column} is sealed, so it holds bytes")
        if key not in {index.name for index in table.indexes}:
            found.append(f"{column} is not in the rotation: add key_index({table.name!r}, {column.name!r})")
        searched = [index.name for index in table.indexes if column.name in index.columns and index.name != key]
        unique = [
            rule.name
            for rule in table.constraints
            if isinstance(rule, UniqueConstraint) and column.name in rule.columns
        ]
        found += [f"{name} sorts {column} by what nobody can read" for name in (*searched, *unique)]
        names = row_names(column)
        known = [{c.name for c in getattr(rule, "columns", ())} for rule in table.constraints]
        if set(names) not in known:
            found.append(f"{column} names its rows by {names}, which is no key of {table.name}")
    return found


def test_every_secret_is_hashed_or_sealed(metadata: MetaData) -> None:
    columns = [column for table in metadata.tables.values() for column in table.columns]
    assert len(sealed_columns(metadata)) >= SEALED
    assert sum("hashed" in column.info for column in columns) >= HASHED
    assert open_secrets(metadata) == []


def test_every_sealed_column_is_in_the_rotation_and_in_no_search(metadata: MetaData) -> None:
    assert unfit(metadata) == []


async def test_the_database_lets_the_rotation_work(metadata: MetaData, superuser: asyncpg.Connection[Any]) -> None:
    for column in sealed_columns(metadata):
        table, name = column.table.name, column.name
        may = "has_column_privilege('ballast_maintenance', $1, $2, 'UPDATE')"
        assert await superuser.fetchval(f"SELECT {may}", table, name), (
            f"{column}: GRANT UPDATE ({name}) ON {table} TO ballast_maintenance in the migration that adds it"
        )
        index = await superuser.fetchval(
            "SELECT indexdef FROM pg_indexes WHERE indexname = $1", f"ix_{table}_{name}_key"
        )
        assert index, f"{column}: the migration does not make ix_{table}_{name}_key"
        assert f"substr({name}, 1, 2)" in index


def test_the_rules_bite() -> None:
    probe = MetaData()
    Table(
        "doors", probe, Column("id", Integer, primary_key=True, info=internal()),
        Column("forgotten", LargeBinary, info=secret()), Column("kept", LargeBinary, info=hashed(secret())),
        Column("good", LargeBinary, info=sealed(secret())), Column("text", String, info=sealed(secret())),
        Column("named", LargeBinary, info=sealed(secret(), by=("text",))),
        key_index("doors", "good"), Index("ix_doors_good", "good"),
    )  # fmt: skip
    assert [line.split(" ")[0] for line in open_secrets(probe)] == ["doors.forgotten"]
    found = " ".join(unfit(probe))
    assert "doors.text is sealed, so it holds bytes" in found
    assert "ix_doors_good sorts doors.good" in found
    assert "doors.text is not in the rotation" in found
    assert "doors.named names its rows by" in found
    assert "doors.good is not" not in found


def searches(metadata: MetaData) -> Callable[[ast.AST], bool]:
    """Whether a piece of code compares, or sorts by, a sealed column of a model."""
    models = {
        (mapper.class_.__name__, column.name)
        for mapper in Base.registry.mappers
        for column in sealed_columns(metadata)
        if mapper.local_table is column.table
    }

    def is_sealed(node: ast.AST) -> bool:
        return isinstance(node, ast.Attribute) and (getattr(node.value, "id", ""), node.attr) in models

    def search(node: ast.AST) -> bool:
        if isinstance(node, ast.Compare):
            return any(map(is_sealed, (node.left, *node.comparators)))
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            return False
        if is_sealed(node.func.value):
            return node.func.attr not in HARMLESS
        return node.func.attr in ("order_by", "group_by", "distinct") and any(map(is_sealed, node.args))

    return search


def test_nobody_searches_what_is_sealed(metadata: MetaData, sources: dict[Path, ast.Module]) -> None:
    search = searches(metadata)
    assert found_in(sources, search) == [], (
        "a sealed value differs each time it is sealed: keep a keyed hash to find it"
    )
    probe = {SERVICE / "probe.py": ast.parse("x = Source.sealed_key == b''\nselect(x).order_by(User.totp_secret)")}
    assert len(found_in(probe, search)) == 2


def test_nobody_encrypts_by_hand(sources: dict[Path, ast.Module]) -> None:
    others = {path: tree for path, tree in sources.items() if path not in BY_HAND}
    calls = found_in(others, lambda node: is_call_of(node, "encrypt", "decrypt", "Keyring"))
    assert calls == [], f"{calls}: declare the column sealed(...) and use seal and unseal (guardrails/sealed.py)"
    assert found_in({path: sources[path] for path in BY_HAND}, lambda node: is_call_of(node, "keyring"))
