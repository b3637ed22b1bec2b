"""Numbers, shares, moments and addresses as people read them."""

# ruff: noqa: RUF001 - the minus sign and the dash are what people are shown

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core import clock
from service.web.formats import ago, date_time, initials, number, percent, safe_url


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (math.nan, "–"), (math.inf, "–"), (Decimal("sNaN"), "–"), (10**400, "–"),
        (0, "0"), (7, "7"), (1.0843, "1.0843"), (12.5, "12.5"), (1234.567, "1,234.57"), (9999.99, "9,999.99"),
        (10_000, "10k"), (48_211, "48.2k"), (999_949, "1M"), (1_284_310, "1.28M"), (2.5e9, "2.5B"), (-48_211, "−48.2k"),
        (1e15, "1.00e15"), (0.00001234, "1.2e-05"), (Decimal("3.10"), "3.1"), (-0.5, "−0.5"),
    ],
)  # fmt: skip
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) == text


def test_numbers_in_tables_are_whole() -> None:
    assert number(48_211.256, compact=False) == "48,211.26"


@given(st.floats(allow_nan=True, allow_infinity=True) | st.integers() | st.decimals())
def test_any_number_is_short_text(value: float) -> None:
    assert 1 <= len(number(value)) <= 12
    assert 1 <= len(percent(value)) <= 12


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (0.123, "12.3 %"),
        (1, "100 %"),
        (-0.05, "−5 %"),
        (0, "0 %"),
        (None, "–"),
        (1e9, "> 9,999 %"),
        (-1e9, "< −9,999 %"),
    ],
)
def test_percent(ratio: float | None, text: str) -> None:
    assert percent(ratio) == text


def test_a_change_shows_its_sign() -> None:
    assert [percent(value, signed=True) for value in (0.042, -0.042, 0)] == ["+4.2 %", "−4.2 %", "0 %"]


@pytest.mark.parametrize(
    ("distance", "text"),
    [
        (timedelta(seconds=3), "just now"), (timedelta(minutes=5), "5 min ago"), (timedelta(hours=3), "3 h ago"),
        (timedelta(days=1), "1 day ago"), (timedelta(days=4), "4 days ago"), (timedelta(minutes=-5), "in 5 min"),
        (timedelta(days=-2), "in 2 days"),
    ],
)  # fmt: skip
def test_distances(distance: timedelta, text: str) -> None:
    assert f">{text}</time>" in str(ago(clock.now() - distance))


def test_far_moments_are_dates() -> None:
    assert "1 Mar 2020</time>" in str(ago(datetime(2020, 3, 1, 12, 0, tzinfo=UTC)))


def test_moments_are_utc_for_machines_and_people() -> None:
    paris = datetime(2026, 11, 22, 15, 40, tzinfo=timezone(timedelta(hours=1)))
    text = str(date_time(paris))
    assert 'datetime="2026-11-22T14:40:00Z"' in text
    assert "22 Nov 2026, 14:40 UTC" in text
    assert str(date_time(datetime(2026, 11, 22, 14, 40))) == text
    assert (date_time(None), ago(None)) == ("–", "–")


@pytest.mark.parametrize("url", ["/", "/a/b?c=d#e", "#top", "?page=2", "https://example.com/x", "mailto:a@example.com"])
def test_addresses_to_go_to(url: str) -> None:
    assert safe_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)", "JAVASCRIPT:alert(1)", " javascript:alert(1)", "java\nscript:alert(1)",
        "\x01javascript:x",
        "data:text/html,<script>", "vbscript:x", "//evil.example", "/\\evil.example", "\\\\evil.example",
        "relative", "",
        "/a\nb", "file:///etc/passwd", "blob:x",
    ],
)  # fmt: skip
def test_addresses_that_run_code_or_leave_unseen_are_refused(url: str) -> None:
    assert safe_url(url) == "#"


@pytest.mark.parametrize(
    ("name", "letters"), [("Ada Lovelace", "AL"), ("ada", "A"), ("", "?"), ("<b> x", "X"), ("A B C", "AC")]
)
def test_initials(name: str, letters: str) -> None:
    assert initials(name) == letters
