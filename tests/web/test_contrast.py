"""WCAG 2.2 contrast of the palette, computed from app.css, by day and by night."""

from __future__ import annotations

import re

import pytest

from service.web.assets import STATIC

CSS = (STATIC / "app.css").read_text("utf-8")
PAIRED = {
    name: (day, night)
    for name, day, night in re.findall(r"--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", CSS)
}

GROUNDS = ("paper", "surface", "raised", "sunken")
TEXT = [
    *((ink, ground) for ink in ("ink", "muted", "accent", "danger") for ground in GROUNDS),
    *(("success", ground) for ground in GROUNDS),
    *(("ink", f"{kind}-soft") for kind in ("success", "warning", "danger", "info", "accent")),
    *((kind, f"{kind}-soft") for kind in ("success", "warning", "danger", "info", "accent")),
    ("on-accent", "accent"), ("on-accent", "accent-strong"), ("on-danger", "danger"),
    ("surface", "ink"), ("paper", "ink"),
    *((ink, ground) for ink in ("side-ink", "side-muted") for ground in ("side", "side-hover")),
    ("side-ink", "side-active"),
]  # fmt: skip
SHAPES = [(line, ground) for line in ("edge", "focus", "accent") for ground in ("paper", "surface", "raised")]


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    channels = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_palette_is_read() -> None:
    assert len(PAIRED) == 28
    assert contrast("#ffffff", "#000000") == pytest.approx(21)


@pytest.mark.parametrize("theme", [0, 1], ids=["day", "night"])
@pytest.mark.parametrize(("ink", "ground"), TEXT)
def test_text_is_readable(ink: str, ground: str, theme: int) -> None:
    """Success criterion 1.4.3, level AA: 4.5 to 1."""
    assert contrast(PAIRED[ink][theme], PAIRED[ground][theme]) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["day", "night"])
@pytest.mark.parametrize(("line", "ground"), SHAPES)
def test_controls_and_focus_are_visible(line: str, ground: str, theme: int) -> None:
    """Success criterion 1.4.11: 3 to 1."""
    assert contrast(PAIRED[line][theme], PAIRED[ground][theme]) >= 3


def test_the_avatar_is_readable() -> None:
    [brass] = re.findall(r"--brass: (#[0-9a-f]{6})", CSS)
    [ink] = re.findall(r"background: var\(--brass\); color: (#[0-9a-f]{6})", CSS)
    assert contrast(brass, ink) >= 4.5


def test_colours_stand_in_the_palette_only() -> None:
    """A colour written elsewhere would escape this file and the dark theme."""
    rules = CSS[CSS.index("/* Ground */") :]
    loose = set(re.findall(r"#[0-9a-f]{3,8}\b", rules))
    # On the brand panel and the side bar, which are dark by day and by night.
    assert loose == {"#8cc4ff", "#2b1c02", "#10222f", "#0b4a50", "#c8d6de", "#f0b95a"}


def test_motion_can_be_switched_off_and_targets_are_large() -> None:
    assert "prefers-reduced-motion: reduce" in CSS
    assert "--target: 2.75rem" in CSS
    assert "url(" not in CSS, "the policy allows no foreign file, and a name without a hash would not be cached"
