"""Charts drawn on the server as SVG: no script, no canvas, a size that does not grow with the number of points.

The drawing is stretched to its box (`preserveAspectRatio="none"`, strokes keep their width), while every word stands
beside it as HTML: text stays readable at 320 px and screen readers get sentences. Colours come from CSS classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

from markupsafe import Markup, escape

from service.web.formats import as_utc, finite, iso, number

Value = float | Decimal | None
Position = tuple[float, float | None]

# Drawn on a fine grid of whole numbers: shorter than decimals and a third of the time to write.
WIDTH, HEIGHT = 2000, 500
SPARK_WIDTH, SPARK_HEIGHT, SPARK_MARGIN = 500, 100, 8
CHART_BUCKETS, SPARK_BUCKETS = 120, 48
Y_STEPS, X_STEPS = 4, 4
BIGGEST = 1e300
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIME_LABELS = ((36, "hour", "%H:%M"), (8 * 24, "weekday", "%a %H:%M"), (300 * 24, "day", "%-d %b"))
"""(period up to so many hours, name app.js knows, format): how precise the moments under a chart are."""


def sparkline(values: Iterable[Value], title: str) -> Markup:
    """The recent course of one number as a small line; `title` is what a screen reader says.

    Remembered, because every poll of a dashboard draws forty of them and readings arrive by the hour.
    """
    return _sparkline(tuple(map(_plottable, values)), title)


@lru_cache(maxsize=1024)
def _sparkline(values: tuple[float | None, ...], title: str) -> Markup:
    series = _downsample(list(enumerate(values)), SPARK_BUCKETS)
    low, high = _span([y for _, y in series if y is not None])
    places = _scaled(series, low, high, SPARK_WIDTH, SPARK_HEIGHT, SPARK_MARGIN)
    line, area = _paths(places, SPARK_HEIGHT)
    return Markup(  # noqa: S704 - the paths are numbers we formatted; the title is escaped
        f'<svg class="spark" viewBox="0 0 {SPARK_WIDTH} {SPARK_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(title)}"><path class="spark-area" d="{area}"/>'
        f'<path class="spark-line" d="{line}" vector-effect="non-scaling-stroke"/>'
        f'<path class="spark-dot" d="{_last_dot(places)}" vector-effect="non-scaling-stroke"/></svg>'
    )


def line_chart(points: Sequence[tuple[datetime, Value]], title: str, *, unit: str = "", detail: str = "") -> Markup:
    """Values over time with ticks, gaps where a value is None, and the lowest, highest and last value in words.

    `points` in order of time; a value that is no finite number is a gap. `detail` completes the description.
    """
    ordered = [(as_utc(at).timestamp(), _plottable(value)) for at, value in points]
    known = [y for _, y in ordered if y is not None]
    if not known:
        return Markup('<figure class="chart chart-empty"><p>No readings in this period.</p></figure>')
    ticks = _ticks(min(known), max(known))
    places = _scaled(_downsample(ordered, CHART_BUCKETS), ticks[0], ticks[-1], WIDTH, HEIGHT)
    line, area = _paths(places, HEIGHT)
    grid = "".join(f"M0 {HEIGHT * i // Y_STEPS}H{WIDTH}" for i in range(Y_STEPS + 1))
    suffix = f" {unit}" if unit else ""
    facts = [
        (name, f"{number(value)}{suffix}")
        for name, value in (("Lowest", min(known)), ("Highest", max(known)), ("Last", known[-1]))
    ]
    legend = "".join(f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in facts)
    start, end = iso(points[0][0]), iso(points[-1][0])
    spoken = f"{start} to {end}. " + ", ".join(f"{name} {text}" for name, text in facts) + "."
    if gaps := len(ordered) - len(known):
        spoken += f" {gaps} of {len(ordered)} moments have no value."
    return Markup(  # noqa: S704 - every text is escaped here, the rest are numbers we formatted
        f'<figure class="chart" data-chart="line" data-from="{start}" data-to="{end}" data-unit="{escape(unit)}" '
        f'data-low="{ticks[0]:.12g}" data-high="{ticks[-1]:.12g}">'
        f'<div class="chart-y" aria-hidden="true">{_value_labels(ticks)}</div>'
        f'<div class="chart-plot"><svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img">'
        f"<title>{escape(title)}</title><desc>{escape(f'{spoken} {detail}'.strip())}</desc>"
        f'<path class="chart-grid" d="{grid}" vector-effect="non-scaling-stroke"/><path class="chart-area" d="{area}"/>'
        f'<path class="chart-line" d="{line}" vector-effect="non-scaling-stroke"/>'
        f'<path class="chart-dot" d="{_last_dot(places)}" vector-effect="non-scaling-stroke"/></svg></div>'
        f'<div class="chart-x" aria-hidden="true">{_time_labels(ordered[0][0], ordered[-1][0])}</div>'
        f'<figcaption><dl class="chart-facts">{legend}</dl></figcaption></figure>'
    )


def _plottable(value: Value) -> float | None:
    """Clipped far inside what a float holds, so that differences cannot overflow to infinity."""
    if type(value) is float and -BIGGEST < value < BIGGEST:
        return value
    plain = finite(value)
    return None if plain is None else max(-BIGGEST, min(BIGGEST, plain))


def _downsample(series: list[Position], buckets: int) -> list[Position]:
    """At most two points per bucket, its lowest and highest in order of time: a one-hour spike survives a year."""
    if len(series) <= buckets:
        return series
    out: list[Position] = []
    for index in range(buckets):
        part = series[index * len(series) // buckets : (index + 1) * len(series) // buckets]
        known = [(y, x) for x, y in part if y is not None]
        if not known:
            out.append((part[0][0], None))
            continue
        (low_y, low_x), (high_y, high_x) = min(known), max(known)
        out.extend(sorted({(low_x, low_y), (high_x, high_y)}))
    # The newest value is the one people compare with the headline: never lose it to a bucket's extremes.
    if series[-1][1] is not None and out[-1] != series[-1]:
        out.append(series[-1])
    return out


def _span(known: list[float]) -> tuple[float, float]:
    """Low and high, with room around a constant so that it runs through the middle."""
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    if high - low <= max(abs(low), abs(high)) * 1e-9:
        room = abs(low) * 0.1 or 1.0
        return low - room, high + room
    return low, high


def _ticks(low: float, high: float) -> list[float]:
    """Five round numbers with equal steps that enclose the values."""
    low, high = _span([low, high])
    if 0 < low < (high - low) * 2:
        low = 0.0
    rough = max((high - low) / Y_STEPS, 1e-300)
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = base = 0.0
    for factor in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20):
        step = factor * magnitude
        base = math.floor(low / step) * step
        if base + step * Y_STEPS >= high:
            break
    return [base + step * index for index in range(Y_STEPS + 1)]


def _value_labels(ticks: list[float]) -> str:
    """The shortest way of writing that tells all ticks apart: compact, then with decimals, then with many digits."""
    digits = min(9, max(0, 1 - math.floor(math.log10(ticks[1] - ticks[0]))))
    texts: list[str] = []
    for texts in (
        [number(tick, digits=digits) for tick in ticks],
        [number(tick, digits=digits, compact=False) for tick in ticks],
        [f"{tick:.12g}" for tick in ticks],
    ):
        if len(set(texts)) == len(texts):
            break
    return "".join(f"<span>{text}</span>" for text in reversed(texts))


def _time_labels(start: float, end: float) -> str:
    """Five moments at equal distances; the precision follows from the length of the period."""
    hours = (end - start) / 3_600
    name, form = next(((name, form) for most, name, form in TIME_LABELS if hours <= most), ("month", "%b %Y"))
    moments = [EPOCH + timedelta(seconds=start + (end - start) * index / X_STEPS) for index in range(X_STEPS + 1)]
    return "".join(f'<time datetime="{iso(at)}" data-time="{name}">{at:{form}}</time>' for at in moments)


def _scaled(
    series: list[Position], low: float, high: float, width: int, height: int, margin: int = 0
) -> list[Position]:
    """Places in the drawing; `margin` keeps the stroke of the highest and lowest inside it."""
    if not series:
        return []
    start = series[0][0]
    across = width / ((series[-1][0] - start) or 1.0)
    inner, up = height - 2 * margin, high - low
    return [((x - start) * across, None if y is None else margin + inner * (1 - (y - low) / up)) for x, y in series]


def _paths(places: list[Position], height: int) -> tuple[str, str]:
    """The line and the area under it; a gap starts a new piece, a lone point becomes a dot (round line cap)."""
    line = area = ""
    piece: list[str] = []
    for x, y in [*places, (0.0, None)]:
        if y is not None:
            piece.append(f"{int(x)} {int(y)}")
        elif len(piece) == 1:
            line += f"M{piece[0]}h0"
            piece = []
        elif piece:
            drawn = "L".join(piece)
            line += "M" + drawn
            area += f"M{piece[0].split()[0]} {height}L{drawn}V{height}Z"
            piece = []
    return line, area


def _last_dot(places: list[Position]) -> str:
    return next((f"M{x:.0f} {y:.0f}h0" for x, y in reversed(places) if y is not None), "")
