"""Every feature that plans differ in is held back somewhere, and what is counted is counted in one way."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.features.billing.models.plans import PLANS
from service.guardrails.entitlements import Feature
from tests.architecture.conftest import SERVICE

ASKED_BY = {
    Feature.INDICATORS: {"create_indicator", "restore_indicator"},
    Feature.FILES_MB: {"begin_upload"},
    Feature.SEATS: {"invite", "accept_invitation"},
    Feature.SOURCES: {"connect_source", "restore_source"},
}
"""The actions that add one of what is counted."""

READ_BY = {
    Feature.HISTORY_DAYS: {"guardrails/entitlements.py history"},
    Feature.API_PER_MINUTE: {"guardrails/gate.py _rate"},
}
"""What is not counted in rows: who holds the number up to somebody."""

Sources = dict[Path, ast.Module]
Place = tuple[Path, ast.AsyncFunctionDef | ast.FunctionDef]


def functions(sources: Sources) -> Iterator[Place]:
    for path, tree in sources.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
                yield path, node


def mentions(node: ast.AST) -> set[Feature]:
    """The members of Feature that stand in a piece of code."""
    return {
        Feature[each.attr]
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "Feature"
    }


def asked(sources: Sources) -> dict[Feature, set[str]]:
    """Feature -> the functions that say `await ctx.allow(Feature.X)`."""
    found: dict[Feature, set[str]] = {}
    for _, function in functions(sources):
        for node in ast.walk(function):
            if isinstance(node, ast.Await) and ast.unparse(node).startswith("await ctx.allow("):
                for feature in mentions(node):
                    found.setdefault(feature, set()).add(function.name)
    return found


def counters(sources: Sources) -> dict[Feature, list[str]]:
    found: dict[Feature, list[str]] = {}
    for _, function in functions(sources):
        for decorator in function.decorator_list:
            if ast.unparse(decorator).startswith("counted("):
                for feature in mentions(decorator):
                    found.setdefault(feature, []).append(function.name)
    return found


def readers(sources: Sources) -> dict[Feature, set[str]]:
    """Feature -> the functions of guard rails that look its number up."""
    found: dict[Feature, set[str]] = {}
    for path, function in functions(sources):
        name = f"{path.relative_to(SERVICE)} {function.name}"
        if name.startswith("guardrails/"):
            for feature in mentions(function):
                found.setdefault(feature, set()).add(name)
    return found


def test_whoever_adds_what_is_counted_asks_first(sources: Sources) -> None:
    now = asked(sources)
    assert now == ASKED_BY, (
        f"asking now: {now}; expected: {ASKED_BY}. An action that adds one of these begins with `await ctx.allow("
        "Feature.X)`, or the plan's limit is a number on a page; a new one belongs into ASKED_BY, too"
    )


def test_what_is_counted_has_one_counter(sources: Sources) -> None:
    found = counters(sources)
    assert set(found) == set(ASKED_BY), f"counted: {set(found)}: each of {set(ASKED_BY)} needs one @counted(Feature.X)"
    twice = {feature: names for feature, names in found.items() if len(names) != 1}
    assert not twice, f"{twice}: two counters would disagree one day"


def test_what_is_not_counted_is_read(sources: Sources) -> None:
    now = readers(sources)
    assert now == READ_BY, f"reading now: {now}; expected: {READ_BY}. A limit that nobody reads is a number on a page"


def test_every_feature_is_held_back_and_has_a_number_in_every_plan() -> None:
    free = set(Feature) - set(ASKED_BY) - set(READ_BY)
    assert not free, f"{free}: sold by plans and held back nowhere: call `ctx.allow`, or name its reader here"
    assert len(Feature) >= 4
    lacking = {plan.key: missing for plan in PLANS if (missing := set(Feature) - set(plan.limits))}
    assert not lacking, f"{lacking}: every plan says a number for every feature"


def without(sources: Sources, file: str, line: str) -> Sources:
    """The same sources, but one line is gone from one file."""
    path = SERVICE / file
    text, cut = re.subn(rf"^ *{re.escape(line)}.*\n", "", path.read_text(), flags=re.MULTILINE)
    assert cut, f"{file} has no line {line!r}"
    return {**sources, path: ast.parse(text)}


@pytest.mark.parametrize(
    ("rule", "file", "line", "sentence"),
    [
        (
            test_whoever_adds_what_is_counted_asks_first,
            "features/indicators/actions.py",
            "await ctx.allow(Feature.INDICATORS)",
            "or the plan's limit is a number on a page",
        ),
        (
            test_what_is_counted_has_one_counter,
            "features/organizations/actions/invitations.py",
            "@counted(Feature.SEATS",
            "needs one @counted(Feature.X)",
        ),
        (
            test_what_is_not_counted_is_read,
            "guardrails/gate.py",
            "return limits[Feature.API_PER_MINUTE]",
            "A limit that nobody reads",
        ),
    ],
)
def test_each_rule_bites(rule: Any, file: str, line: str, sentence: str, sources: Sources) -> None:
    if "return" in line:
        path = SERVICE / file
        changed = {**sources, path: ast.parse(path.read_text().replace(line, "return 60"))}
    else:
        changed = without(sources, file, line)
    with pytest.raises(AssertionError, match=re.escape(sentence)):
        rule(changed)
