"""The log: one JSON line per event, classified names hidden at any depth, nobody writes a second line."""

from __future__ import annotations

import traceback
from typing import Any
from uuid import uuid4

import asyncpg
import orjson
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.exc import IntegrityError

from service.catalog import load_tables
from service.core import telemetry
from service.core.database import Database
from service.core.logging import HIDDEN, redact, to_json
from service.core.settings import Settings
from service.features.accounts.models import User
from tests.support.factories import Factory

COPY_OF_A_PERSON = "INSERT INTO users (id, email, name, created_at) SELECT gen_random_uuid(), $1, $2, now()"


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


@pytest.mark.parametrize("through_the_orm", [True, False])
async def test_an_error_of_the_database_quotes_nobody(
    database: Database, factory: Factory, through_the_orm: bool
) -> None:
    """SQLAlchemy ends its message with the parameters, PostgreSQL its own with the row."""
    taken = (await factory.person()).email
    name, hashed = (f"canary-{uuid4().hex}" for _ in range(2))  # a traceback shows our lines, so no word stands in them
    try:
        async with database.unit_of_work() as work:
            if through_the_orm:
                work.session.add(User(email=taken, name=name, password_hash=hashed))
                await work.session.flush()
            else:
                await work.raw.execute(COPY_OF_A_PERSON, taken, name)
    except (IntegrityError, asyncpg.UniqueViolationError):
        raw, found = line(event="request failed", exception=traceback.format_exc())
    assert "uq_users_email" in found["exception"]
    for secret in (taken, name, hashed):
        assert secret.encode() not in raw


async def test_a_span_tells_the_class_of_an_error_and_none_of_its_words(settings: Settings) -> None:
    exporter = InMemorySpanExporter()
    telemetry.configure_tracing(settings.model_copy(update={"trace_sample_ratio": 1.0}), exporter)
    try:
        with (
            pytest.raises(ValueError, match="canary"),
            telemetry.root_span("GET /", SpanKind.SERVER),
            telemetry.span("action x"),
        ):
            raise ValueError("canary@example.com")
    finally:
        await telemetry.stop_tracing()
        telemetry.configure_tracing(settings)
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["action x", "GET /"]
    assert spans[0].status.description == "ValueError"
    assert "canary" not in "".join(span.to_json() for span in spans)


async def test_what_libraries_quote_in_their_errors_stays_out_of_the_log(superuser: asyncpg.Connection[Any]) -> None:
    """asyncpg, PostgreSQL and pydantic repeat in their texts what they were given."""
    texts = []
    for sql, value in (("SELECT $1::int", "leak-me"), ("SELECT $1::text::uuid", "leak-me"), ("SELECT 'x'", "leak-me")):
        with pytest.raises((asyncpg.PostgresError, asyncpg.DataError, asyncpg.InterfaceError)) as failed:
            await superuser.fetch(sql, value)
        texts.append("".join(traceback.format_exception_only(failed.value)))
    with pytest.raises(ValidationError) as invalid:
        TypeAdapter(dict[str, int]).validate_python({"a": "leak-me", "b": "leak-me too"})
    texts.append(str(invalid.value))
    assert sum("leak-me" in text for text in texts) >= 3, "the libraries have stopped quoting; then this is not needed"
    for text in texts:
        for name in ("exception", "error", "problem"):
            raw_line, _ = line(event="failed", **{name: text})
            assert b"leak-me" not in raw_line, text


@pytest.mark.parametrize("name", ["note", "exception", "event"])
def test_a_card_number_never_reaches_the_log(name: str) -> None:
    load_tables()
    raw, _ = line(
        **{"event": "x", name: "paid with 4111 1111 1111 1111", "number": 4111111111111111, "list": ["378282246310005"],
           "by": {"4111 1111 1111 1111": "\uff14" + "\uff11" * 15}}
    )  # fmt: skip
    assert raw.count(b"[card number]") == 5
    assert "\uff11" not in raw.decode()
    assert b"1111 1111" not in raw
