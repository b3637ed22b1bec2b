"""Charts are valid XML of bounded size, whatever the numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.web.charts import Value, line_chart, sparkline

START = datetime(2026, 8, 24, tzinfo=UTC)
HOSTILE = "<script>alert('1')</script>\"&]]>"
values = st.none() | st.floats() | st.integers() | st.decimals() | st.floats(1e-320, 1e-300) | st.just(42.0)
numbers = st.lists(values, max_size=400)


def hourly(readings: Sequence[Value]) -> list[tuple[datetime, Value]]:
    return [(START + timedelta(hours=index), value) for index, value in enumerate(readings)]


def parsed(markup: str) -> ET.Element:
    return ET.fromstring(str(markup))


def coordinates(root: ET.Element, kind: str) -> list[tuple[float, float]]:
    [path] = [path for path in root.iter("path") if path.get("class") == kind]
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.get("d", ""))]


@given(numbers)
@settings(deadline=None)
def test_a_sparkline_is_valid_bounded_and_inside_its_box(readings: list[Value]) -> None:
    markup = sparkline(readings, HOSTILE)
    root = parsed(markup)
    assert len(markup) < 3_000
    assert root.get("aria-label") == HOSTILE
    assert all(0 <= x <= 500 and 0 <= y <= 100 for x, y in coordinates(root, "spark-line"))


@given(numbers)
@example([1.0, 1.0 + 1e-12])
@example([-1.7e308, 1.7e308])
@example([1.0e-8, 1.3e-8])
@example([1e15, 1e15 + 10])
@example([1e-9, 1e-9 + 1e-17])
@example([1e300, 1e300 * (1 + 2e-9)])
@settings(deadline=None)
def test_a_line_chart_is_valid_bounded_and_inside_its_box(readings: list[Value]) -> None:
    markup = line_chart(hourly(readings), HOSTILE, unit=HOSTILE, detail=HOSTILE)
    root = parsed(markup)
    assert len(markup) < 9_500
    assert "<script" not in markup
    if "chart-empty" not in markup:
        assert all(0 <= x <= 2000 and 0 <= y <= 500 for x, y in coordinates(root, "chart-line"))
        labels = [span.text for span in root.iter("span")]
        assert len(labels) == 5
        assert len(set(labels)) == 5
        assert not {"nan", "inf"} & {text.lower() for text in root.itertext()}


def test_size_does_not_grow_with_the_number_of_points() -> None:
    few, many = ([math.sin(i / 5) for i in range(count)] for count in (1_000, 100_000))
    assert abs(len(line_chart(hourly(few), "x")) - len(line_chart(hourly(many), "x"))) < 500
    assert abs(len(sparkline(few, "x")) - len(sparkline(many, "x"))) < 300


def test_a_single_spike_survives_downsampling() -> None:
    readings: list[Value] = [10.0] * 5_000
    readings[1234] = 990.0
    heights = {y for _, y in coordinates(parsed(line_chart(hourly(readings), "x")), "chart-line")}
    assert min(heights) < 20
    assert max(heights) > 480


def test_a_gap_breaks_the_line() -> None:
    root = parsed(line_chart(hourly([1.0, 2.0, None, None, 3.0, 4.0]), "x"))
    [line] = [path.get("d", "") for path in root.iter("path") if path.get("class") == "chart-line"]
    assert line.count("M") == 2
    assert "2 of 6 moments have no value" in "".join(root.itertext())


def test_a_lone_point_is_a_dot() -> None:
    root = parsed(sparkline([5.0], "x"))
    assert [path.get("d") for path in root.iter("path") if path.get("class") == "spark-line"] == ["M0 50h0"]


def test_a_constant_runs_through_the_middle() -> None:
    assert {y for _, y in coordinates(parsed(sparkline([7.0] * 9, "x")), "spark-line")} == {50.0}


def test_negative_values_lie_below_positive_ones() -> None:
    places = coordinates(parsed(line_chart(hourly([-5.0, 5.0]), "x")), "chart-line")
    assert places[0][1] > places[1][1]


def test_lowest_highest_and_last_are_told_in_words() -> None:
    text = "".join(parsed(line_chart(hourly([3.0, Decimal("12.5"), 1, 7.25]), "Tickets", unit="EUR")).itertext())
    assert "Tickets" in text
    for part in ("Lowest1 EUR", "Highest12.5 EUR", "Last7.25 EUR", "2026-08-24T00:00:00Z to 2026-08-24T03:00:00Z"):
        assert part in text


def test_nothing_to_draw_says_so() -> None:
    assert "No readings in this period" in line_chart([], "x")
    assert "No readings in this period" in line_chart(hourly([None, math.nan]), "x")
    assert parsed(sparkline([], "x")) is not None


@pytest.mark.parametrize(
    ("hours", "label"), [(6, "00:00"), (72, "Mon 00:00"), (24 * 60, "24 Aug"), (24 * 900, "Aug 2026")]
)
def test_moments_are_as_precise_as_the_period_needs(hours: int, label: str) -> None:
    root = parsed(line_chart([(START, 1.0), (START + timedelta(hours=hours), 2.0)], "x"))
    assert next(iter(root.iter("time"))).text == label
