"""Card numbers that nobody types into a field: what other systems say, whoever they are, and the shell."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from service.cli import cli
from service.core import logging, masking
from service.core.errors import Invalid
from service.guardrails import cards, strict_json
from service.guardrails.cards import MASK, SENTENCE, spread, without_cards
from service.guardrails.jobs.registry import JOBS
from service.integrations.http import Answer

VISA, AMEX = "4111111111111111", "378282246310005"
SAID: list[tuple[Any, Any]] = [
    ({"note": f"paid with {VISA}"}, {"note": f"paid with {MASK}"}),
    ({"a": [{"b": "4111 1111 1111 1111"}], "id": "evt_1"}, {"a": [{"b": MASK}], "id": "evt_1"}),
    ({"number": int(VISA), "amount": 1200, "yes": True}, {"number": MASK, "amount": 1200, "yes": True}),
    ({"number": float(AMEX)}, {"number": MASK}),
    ({VISA: 1}, {MASK: 1}),
    ([VISA], [MASK]),
]


@pytest.mark.parametrize(("said", "kept"), SAID)
def test_what_another_system_says_is_masked(said: Any, kept: Any) -> None:
    written = orjson.dumps(said)
    for body in (written, written.replace(b'"4111', rb'"\u0034111'), orjson.dumps(said, option=orjson.OPT_INDENT_2)):
        assert orjson.loads(without_cards(body)) == kept
    if isinstance(said, dict):
        assert Answer(200, {}, written).json_object() == kept


def test_what_has_no_card_stays_byte_for_byte() -> None:
    for body in (b'{"a" : "4111 1111 1111 1112",\n "at": "\\u00e9"}', b"no JSON", b"\xff\xfe", b"", b"[" * 5_000):
        assert without_cards(body) == body
    assert without_cards(f"{{not JSON {VISA}".encode()) == f"{{not JSON {MASK}".encode()
    assert VISA.encode() not in without_cards(b"[" * 5_000 + VISA.encode())


def test_the_shell_is_told_like_everybody_else() -> None:
    """Refused before anything is begun: no setting is read, no connection made."""
    for words in (
        ["break-glass", "open", "ann@example.com", "--reason", "4111 1111 1111 1111 is lost"],
        ["staff", "add", f"{VISA}@example.com"], ["billing", f"--{VISA}"],
    ):  # fmt: skip
        told = CliRunner().invoke(cli, words)
        assert told.exit_code == 1
        assert SENTENCE in told.output
        assert not cards.contains_card(told.output)


class Unknown:
    """Whatever a library hands to the log: an error, a set, an object with a text of its own."""

    def __str__(self) -> str:
        return f"card {VISA}"


class Told(BaseModel):
    note: str


def line(**event: Any) -> bytes:
    return logging.to_json(logging.redact(None, "", dict(event)))


@pytest.mark.parametrize(
    "thing", [ValueError(VISA), Unknown(), {VISA}, VISA.encode(), float(VISA), Told(note=VISA), [Unknown()], -int(VISA)]
)
def test_no_kind_of_value_carries_one_into_the_log(thing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert VISA.encode() not in line(event="x", thing=thing)
    monkeypatch.setattr(masking, "maskers", [])
    assert VISA.encode() in line(event="x", thing=thing), "without the mask it is written"


def test_a_job_is_not_stored_with_one() -> None:
    job = next(iter(JOBS.values()))
    packed = job.pack(dict.fromkeys(job._types, f"pay with {VISA}"))
    assert VISA.encode() not in packed
    assert not job._types or MASK.encode() in packed


SPLIT: list[tuple[str, ...]] = [
    ("4111 1111", "1111 1111"), ("4111", "1111", "1111", "1111"), ("411111111111", "1111"), ("4111", "111111111111"),
    ("4111-1111", "", "1111-1111"), ("3782", "822463", "10005"), ("3782 822463", "10005"), ("3056", "9309025904"),
    (" 4111\u00a01111 ", "1111  1111"), ("\uff14\uff11\uff11\uff11", "111111111111"),
]  # fmt: skip


@pytest.mark.parametrize("parts", SPLIT)
def test_one_number_over_neighbouring_fields_is_refused(
    parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"title": "Lab", **{f"f{place}": part for place, part in enumerate(parts)}, "unit": "kg"}
    filled = {f"a.0.f{place}" for place, part in enumerate(parts) if part}
    for option in (0, orjson.OPT_INDENT_2):
        written = orjson.dumps({"a": [said]}, option=option)
        with pytest.raises(Invalid) as refused:
            strict_json.check_json(written)
        assert refused.value.fields == dict.fromkeys(filled, SENTENCE)
    monkeypatch.setattr(cards, "is_card", lambda _: False)
    assert strict_json.check_json(written) == {"a": [said]}, "without the detector it is taken"


def test_neighbours_that_mean_something_else_are_left_alone() -> None:
    """Parted elsewhere than a card is, with a word in between, in a list, or numbers: limits on purpose."""
    for said in (
        {"postal_code": "41111", "phone": "11111111111"}, {"a": "4111111", "b": "111111111"},
        {"a": "4111 1111", "b": "or", "c": "1111 1111"}, ["41111111", "11111111"], {"a": 41111111, "b": 11111111},
        {"a": "41111111", "b": {"c": "11111111"}}, {"a": "4111 1111", "b": "1111 1112"}, {"a": "4111 1111"},
    ):  # fmt: skip
        assert strict_json.check_json(orjson.dumps(said)) == said


def test_how_often_neighbours_are_taken_for_one_card() -> None:
    """Days, times, hours, plans and codes never; of random pairs of eight digits one in fifty, as of sixteen."""
    chance = random.Random(11)

    def digits(count: int) -> str:
        return f"{chance.randrange(10**count):0{count}d}"

    for _ in range(20_000):
        day = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(days=chance.randrange(30_000))
        later = day + timedelta(days=chance.randrange(400))
        for shape in ("%Y-%m-%d", "%Y%m%d", "%d.%m.%Y", "%d-%m-%Y", "%m/%d/%Y", "%Y"):
            assert not spread([("from", f"{day:{shape}}"), ("to", f"{later:{shape}}")]), (day, later, shape)
        assert not spread([("zip", digits(5)), ("phone", digits(11))])
        assert not spread([("code", digits(6)), ("again", digits(6))])
        assert not spread([("code", digits(6)), ("password", digits(10))])
        assert not spread([("least", digits(3)), ("most", digits(5)), ("seats", digits(4))])
    taken = sum(bool(spread([("a", digits(8)), ("b", digits(8))])) for _ in range(20_000))
    assert taken / 20_000 < 0.03


def test_looking_at_neighbours_costs_little() -> None:
    """CPU time of a megabyte made to be slow, against seconds."""
    texts = ('"1" "" ' * 150_000, '"1""a"' + '"""a"' * 200_000, '"1"' + " " * 1_000_000, '"1" "' * 200_000)
    for text in (*texts, '"-----------' * 90_000, '"' + "1" * 1_000_000, '"1-' * 300_000):
        began = time.process_time()
        cards.may_be_spread(text)
        assert time.process_time() - began < 2
    began = time.process_time()
    assert spread([(str(place), "1112") for place in range(30_000)]) == []
    assert time.process_time() - began < 5
