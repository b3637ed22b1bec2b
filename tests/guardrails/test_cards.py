"""Card numbers are found in whatever people write around them; what the service makes itself is never taken for one."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.core import masking, telemetry
from service.core.errors import Invalid
from service.core.ids import new_id
from service.guardrails import cards, strict_json
from service.guardrails.audit.changes import plain
from service.guardrails.cards import MASK, SENTENCE, contains_card, is_card, mask
from service.web.mail import compose

# The test numbers of the schemes, which no bank ever issues.
VISA, MASTER, AMEX, DINERS = "4111111111111111", "5555555555554444", "378282246310005", "30569309025904"
CARDS = (VISA, MASTER, AMEX, DINERS, "6011111111111117", "2223003122003222", "3530111333300000", "6200000000000005")
GROUPED = (
    "4111 1111 1111 1111", "4111-1111-1111-1111", "4111.1111.1111.1111", "4111\u00a01111\u00a01111\u00a01111",
    "3782 822463 10005", "3056-930902-5904", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "4111/1111/1111/1111",
)  # fmt: skip
WRITTEN = (
    "".join(chr(0xFF10 + int(digit)) for digit in VISA), "".join(chr(0x660 + int(digit)) for digit in MASTER),
    "4111 1111-1111 1111", "4111 - 1111 - 1111 - 1111", "4111  1111  1111  1111", "4111\u200b1111\u200b1111\u200b1111",
    "4111\u00ad1111\u00ad1111\u00ad1111", "41111111 11111111", "41 11 11 11 11 11 11 11", "411111-1111111111",
    "4111\u30001111\u30001111\u30001111", "4.111111111111111e15", "3.78282246310005E+14", "411111111111111100e-2",
    "\u200b".join(VISA), "4.111.111.111.111.111",
)  # fmt: skip
"""As somebody writes who was refused once."""
AROUND = (
    "{}",
    "my card is {}, thanks",
    "card:{}",
    "a,{},b",
    "{}.",
    "({})",
    "no. 5: {}",
    "{0},{0}",
    "x\n{}\ny",
    "Visa{}",
)


@pytest.mark.parametrize("number", [*CARDS, *GROUPED, *WRITTEN])
@pytest.mark.parametrize("around", AROUND)
def test_a_card_is_found_and_masked_whatever_stands_around_it(number: str, around: str) -> None:
    text = around.format(number)
    assert contains_card(text)
    assert mask(text) == around.format(MASK)


def test_a_number_before_a_card_does_not_hide_it() -> None:
    assert mask("no. 5 4111 1111 1111 1111 of 1234 3782 822463 10005") == f"no. 5 {MASK} of 1234 {MASK}"


@given(st.sampled_from([VISA[:15], MASTER[:15], AMEX[:14]]), st.randoms())
def test_one_wrong_digit_is_no_card(start: str, chance: random.Random) -> None:
    right = next(digit for digit in "0123456789" if is_card(start + digit))
    wrong = chance.choice([digit for digit in "0123456789" if digit != right])
    assert not contains_card(start + wrong)
    assert contains_card(start + right)


@given(st.uuids(), st.integers(0, 2**40 - 1))
@example(UUID("41111111-1111-1111-a111-111111111111"), 0)
@example(UUID("aaaa4111-1111-1111-1111-aaaaaaaaaaaa"), 0)
def test_ids_and_times_are_no_cards(identifier: UUID, milliseconds: int) -> None:
    moment = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds % (30 * 365 * 86_400_000))
    epoch = moment.timestamp()
    for text in (
        str(identifier), str(new_id()), f"/indicators/{identifier}/readings", moment.isoformat(),
        f"{moment:%Y%m%d%H%M%S%f}", f"{epoch:.0f}", f"{epoch * 1_000:.0f}", f"{epoch * 1e6:.0f}", f"{epoch:.6f}",
        f"+4917{milliseconds % 10**9:09d}", "+49 176 1234 5678", "(555) 123-4567", "EAN 4006381333931",
    ):  # fmt: skip
        assert not contains_card(text), text


def iban(country: str, account: str) -> str:
    """An account's number with right check digits."""
    digits = "".join(str(int(each, 36)) for each in f"{account}{country}00")
    return f"{country}{98 - int(digits) % 97:02d}{account}"


def in_groups(number: str, gap: str = " ") -> str:
    return gap.join(number[at : at + 4] for at in range(0, len(number), 4))


def test_an_iban_is_no_card_and_hides_none() -> None:
    """Groups of four digits of an account may look like a card; so may one in one piece, check digits and all."""
    like_a_card = next(digits for digits in map(str, range(4108005001234560, 4108005001234570)) if is_card(digits))
    german, polish = iban("DE", f"{like_a_card}00"), iban("PL", "109010144539148803436467")
    finnish = next(one for n in range(10_000) if is_card((one := iban("FI", f"4{n:013d}"))[2:]))
    examples = ("GB33BUKB20201555555555", "FR1420041010050500013M02606", "BE71096123456769", "NO9386011117947")
    assert contains_card(in_groups(german)[5:24]), "alone these digits are one"
    for number in (german, polish, finnish, *examples):
        for written in (number, in_groups(number), in_groups(number, "\u00a0"), in_groups(number, "-")):
            for text in (written, f"IBAN: {written}, Jane", f"pay {written} EUR 100", f"({written})"):
                assert not contains_card(text), text
                assert contains_card(f"{text} {VISA}")
    wrong = f"DE{(int(german[2:4]) + 1):02d}{german[4:]}"
    assert contains_card(in_groups(wrong))
    assert contains_card(f"DE44 {in_groups(VISA)} 00")
    assert contains_card(f"VISA {in_groups(VISA)}")


@given(st.floats(-1e12, 1e12, allow_nan=False))
@example(4.111111111111111)
@example(41111111.11111111)
def test_what_is_measured_is_no_card(value: float) -> None:
    assert not contains_card(repr(value).replace("e", "E"))
    assert not contains_card(f"2026-03-31T14:30:00Z,{value}")


def test_how_often_other_numbers_are_taken_for_cards() -> None:
    """Ids of ours never; of random digits as many as the docstring says, and no more."""
    chance = random.Random(7)
    ids = [new_id() for _ in range(20_000)] + [uuid4() for _ in range(20_000)]
    assert not [one for one in ids if contains_card(str(one)) or contains_card(one.hex)]
    digits = [f"{chance.randrange(10**16):016d}" for _ in range(20_000)]
    assert sum(map(contains_card, digits)) / len(digits) < 0.03
    assert not any(contains_card(f"{chance.randrange(10**13):013d}") for _ in range(20_000))


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ({"name": VISA}, {"name"}),
        ({"readings": [{"value": 1}, {"value": int(AMEX)}]}, {"readings.1.value"}),
        ({"value": float(AMEX)}, {"value"}),
        ({"a": {"b": [f"pay with {GROUPED[0]}"]}}, {"a.b.0"}),
        ({VISA: 1}, {"body"}),
        ([VISA], {"0"}),
        ({"a": f"pay with {GROUPED[-1]}"}, {"a"}),
        (VISA, {"body"}),
    ],
)
def test_json_is_refused_by_the_name_of_its_field(sent: Any, named: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    written = orjson.dumps(sent)
    for text in (
        written, written.replace(b"4111", rb"\u0034111"), written.replace(b"/", rb"\/"),
        written.replace(b":378282246310005}", b":3.78282246310005e14}"),
    ):  # fmt: skip
        with pytest.raises(Invalid) as refused:
            strict_json.check_json(text)
        assert refused.value.fields == dict.fromkeys(named, SENTENCE)
        assert not contains_card(f"{refused.value.detail} {refused.value.mend}")
    monkeypatch.setattr(cards, "is_card", lambda _: False)
    assert strict_json.check_json(orjson.dumps(sent)) == sent, "without the detector it is taken"


def test_a_megabyte_costs_little_even_when_it_is_all_digits() -> None:
    """CPU time, against reading the JSON itself, so that a busy machine judges the same."""
    rows = [
        {"at": f"2026-03-{n % 28 + 1:02d}T00:00:00Z", "value": n * 1.000123, "id": str(uuid4())} for n in range(9_000)
    ]
    text = orjson.dumps(rows).decode()

    def cost(of: str) -> float:
        began = time.process_time()
        contains_card(of)
        return time.process_time() - began

    assert cost(text) < 1
    assert max(cost("1" * 1_000_000), cost("1 " * 500_000), cost("4111-1111-1111-1112 " * 50_000)) < 10
    assert cost(f"{VISA} " * 58_000) < 0.5, "the first one is enough to refuse it all"


def test_nothing_of_ours_writes_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    assert masking.masked(f"x {VISA}") == f"x {MASK}"
    kept = plain({"note": f"card {GROUPED[1]}", "number": int(VISA), "list": [AMEX], "count": 4111}, checked=True)
    assert kept == {"note": f"card {MASK}", "number": MASK, "list": [MASK], "count": 4111}
    assert telemetry._masked({"a": VISA, "n": 1}) == {"a": MASK, "n": 1}
    monkeypatch.setattr(masking, "maskers", [])
    assert plain(VISA) == VISA, "without the mask it is written"


def test_a_mail_carries_no_card() -> None:
    subject, text, html = compose(
        "notifications/mail/news", unsubscribe="https://x.example/u", organization=f"O {VISA}",
        text=f"{GROUPED[0]} joined", link="https://x.example/members",
    )  # fmt: skip
    for part in (subject, text, html):
        assert not contains_card(part)
    assert MASK in text
