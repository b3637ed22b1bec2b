"""Every column says what it holds, and what may not be logged is not logged, by whoever and however deep."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import Column, MetaData, String, Table

from service.catalog import load_tables
from service.core import logging
from service.core.logging import HIDDEN, redact, to_json
from service.guardrails.personal_data import (
    Erasure,
    Protection,
    content,
    hide_in_logs,
    internal,
    personal,
    privacy_of,
    protection_of,
    secret,
)

CANARY = "canary-7f3a"
MARKS = {
    "shelf_state": internal(),
    "shelf_note": content(),
    "shelf_contact": personal("contact.email"),
    "shelf_pin": secret(),
    "shelf_forgotten": {},
}


@pytest.fixture
def table() -> Iterator[Table]:
    """A table with a column of each kind, known to the logger while the test runs."""
    metadata = MetaData()
    made = Table("shelves", metadata, *(Column(name, String, info=info) for name, info in MARKS.items()))
    before = set(logging.hidden_names)
    hide_in_logs(metadata)
    yield made
    logging.hidden_names.intersection_update(before)


def logged(**event: Any) -> dict[str, Any]:
    """What a line would hold, after every step that the service's logger takes with an event."""
    line: dict[str, Any] = json.loads(to_json(redact(None, "info", event)))
    return line


def test_each_mark_says_protection_export_and_erasure(table: Table) -> None:
    found = {column.name: privacy_of(column) for column in table.columns if privacy_of(column) is not None}
    assert {name: (mark.protection, mark.export, mark.erasure) for name, mark in found.items() if mark} == {
        "shelf_state": (Protection.INTERNAL, True, Erasure.DELETE),
        "shelf_note": (Protection.CONTENT, True, Erasure.KEEP),
        "shelf_contact": (Protection.PERSONAL, True, Erasure.DELETE),
        "shelf_pin": (Protection.SECRET, False, Erasure.DELETE),
    }


def test_what_nobody_has_classified_counts_as_secret(table: Table) -> None:
    assert protection_of(table.c.shelf_forgotten) is Protection.SECRET


@pytest.mark.parametrize("name", [name for name in MARKS if name != "shelf_state"])
def test_classified_values_never_reach_the_log(table: Table, name: str) -> None:
    for event in ({name: CANARY}, {name.upper(): CANARY}, {"row": {name: CANARY}}, {"rows": [{"row": {name: CANARY}}]}):
        line = json.dumps(logged(event="saved", **event))
        assert CANARY not in line
        assert HIDDEN in line


def test_internal_values_may_be_read_in_the_log(table: Table) -> None:
    assert logged(event="saved", shelf_state="open") == {"event": "saved", "shelf_state": "open"}


def test_it_bites_what_the_logger_was_not_taught_is_written_down() -> None:
    assert logged(event="saved", shelf_contact=CANARY)["shelf_contact"] == CANARY


def test_the_services_own_columns_are_hidden() -> None:
    tables = load_tables()
    protected = {
        column.name
        for table in tables.tables.values()
        for column in table.columns
        if protection_of(column) is not Protection.INTERNAL
    }
    assert protected >= {"email", "name", "password_hash", "totp_secret"}
    assert protected <= logging.hidden_names
    assert not [name for name in protected if CANARY in json.dumps(logged(**{name: CANARY}))]


def test_nothing_hides_below_the_depth_that_is_read(table: Table) -> None:
    event: dict[str, Any] = {"shelf_contact": CANARY}
    for _ in range(9):
        event = {"inside": event}
        assert CANARY not in json.dumps(logged(**event))


ANY_TEXT = st.text(st.characters(), max_size=12)  # lone surrogates included


@examples(max_examples=200, deadline=None)
@given(
    value=st.recursive(
        ANY_TEXT | st.integers() | st.floats() | st.none(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT | st.integers(), inner, max_size=3),
        max_leaves=12,
    )
)
@example(value=2**70)
@example(value={"\ud800": "\ud800"})
@example(value={"a": {"b": {"c": {"d": {"e": "\ud800"}}}}})
def test_any_value_makes_one_line_of_json(value: Any) -> None:
    """An attacker's value must not make logging itself fail."""
    line = to_json(redact(None, "info", {"event": "x", "odd_thing": value}))
    assert b"\n" not in line
    assert json.loads(line)["event"] == "x"
