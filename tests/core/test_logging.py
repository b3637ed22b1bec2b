"""The log: one JSON line per event, classified names hidden at any depth, nobody writes a second line."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from service.catalog import load_tables
from service.core.logging import HIDDEN, redact, to_json


def line(**event: Any) -> tuple[bytes, dict[str, Any]]:
    raw = to_json(redact(None, "info", dict(event)))
    found: dict[str, Any] = orjson.loads(raw)
    return raw, found


@pytest.mark.parametrize("name", ["password", "token", "authorization", "cookie", "email", "totp_secret", "Password"])
def test_classified_names_are_hidden(name: str) -> None:
    load_tables()
    _, found = line(event="x", **{name: "leak-me"})
    assert found[name] == HIDDEN


def test_hiding_reaches_into_structures() -> None:
    load_tables()
    raw, _ = line(event="x", body={"user": {"email": "leak-me", "list": [{"password": "leak-me"}]}})
    assert b"leak-me" not in raw


def test_a_line_break_in_a_value_stays_inside_its_line() -> None:
    raw, found = line(event="login", user_agent='x"}\n{"event":"forged","level":"critical"}')
    assert raw.count(b"\n") == 0
    assert found["event"] == "login"


@pytest.mark.parametrize("value", ["\ud800", "\x00", "\x1b[31mred", "a" * 100_000])
def test_hostile_text_neither_breaks_nor_floods_the_log(value: str) -> None:
    raw, _ = line(event="x", value=value)
    assert len(raw) < 20_000
    assert b"\x1b" not in raw


def test_the_columns_decide_what_is_hidden() -> None:
    """Removing the classification shows the value: the column mark is what protects."""
    from service.core import logging

    load_tables()
    assert "password_hash" in logging.hidden_names
    logging.hidden_names.discard("password_hash")
    try:
        raw, _ = line(event="x", password_hash="leak-me")
        assert b"leak-me" in raw
    finally:
        load_tables()
    raw, _ = line(event="x", password_hash="leak-me")
    assert b"leak-me" not in raw
