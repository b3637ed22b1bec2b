"""Rules about feature flags: each is explained, asked somewhere, and goes when its day has come."""

from __future__ import annotations

import ast
import os
from datetime import date, timedelta
from pathlib import Path

import pytest

from service.core import clock
from service.guardrails.feature_flags import FLAGS, About, Flag
from tests.architecture.conftest import SERVICE

HOME = SERVICE / "guardrails" / "feature_flags.py"
LONGEST = timedelta(days=400)
"""A flag that is to last for years is a setting or a plan."""


def problems(flags: dict[Flag, About], asked: set[str], today: date) -> list[str]:
    found = [f"{flag} has no line in FLAGS" for flag in Flag if flag not in flags]
    for flag, about in flags.items():
        if not (len(about.description) >= 20 and about.owner and isinstance(about.default, bool)):
            found.append(f"{flag} does not say what it does, who decides about it, and what holds without a turn")
        if about.ends_on <= today:
            found.append(f"{flag} ended on {about.ends_on}: make it everybody's or nobody's, and delete it")
        if about.ends_on > today + LONGEST:
            found.append(f"{flag} ends on {about.ends_on}: what lasts that long is a setting or a plan")
        if flag.name not in asked:
            found.append(f"nobody asks for {flag}: `await feature_flags.is_on(ctx, Flag.{flag.name})`, or delete it")
    return found


def asked_in(sources: dict[Path, ast.Module]) -> set[str]:
    """The flags that some call of `is_on` names."""
    calls = (
        node
        for path, tree in sources.items()
        if path != HOME
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "is_on"
    )
    return {
        argument.attr
        for call in calls
        for argument in call.args
        if isinstance(argument, ast.Attribute) and getattr(argument.value, "id", "") == "Flag"
    }


def test_every_flag_is_explained_asked_for_and_not_past_its_day(sources: dict[Path, ast.Module]) -> None:
    asked = asked_in(sources)
    assert len(asked) >= len(Flag) >= 1, f"the scan saw only {sorted(asked)}"
    found = problems(FLAGS, asked, clock.now().date())
    # A day that has come is for whoever watches CI, and breaks nobody's work on something else.
    assert [one for one in found if "CI" in os.environ or " ended on " not in one] == []


@pytest.mark.parametrize(
    ("flags", "asked", "sentence"),
    [
        ({}, {"TILE_RANGE"}, "has no line"),
        ({Flag.TILE_RANGE: About("", "product", date(2026, 12, 1), False)}, {"TILE_RANGE"}, "does not say"),
        ({Flag.TILE_RANGE: About("x" * 20, "product", date(2026, 11, 1), False)}, {"TILE_RANGE"}, "ended on"),
        ({Flag.TILE_RANGE: About("x" * 20, "product", date(2029, 11, 1), False)}, {"TILE_RANGE"}, "a plan"),
        ({Flag.TILE_RANGE: About("x" * 20, "product", date(2026, 12, 1), False)}, set(), "nobody asks"),
    ],
)
def test_each_rule_bites(flags: dict[Flag, About], asked: set[str], sentence: str) -> None:
    [found] = problems(flags, asked, date(2026, 11, 23))
    assert sentence in found


def test_a_forgotten_flag_is_found_in_the_text() -> None:
    code = {SERVICE / "probe.py": ast.parse("await feature_flags.is_on(ctx, Flag.SEEN)\nother(Flag.UNSEEN)")}
    assert asked_in(code) == {"SEEN"}
