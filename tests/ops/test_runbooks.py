"""Every alert has its page, every page its alert, and each page's commands can be run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.runbook import KINDS, Runbook, Step, execute, load, load_all

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent
SECTIONS = (
    "Meaning",
    "Impact",
    "Diagnose",
    "Remediate",
    "Verify",
    "If this did not work",
    "Customer message",
    "After",
)
FRONT = {
    "alert",
    "severity",
    "service",
    "slo",
    "impact",
    "threshold_why",
    "expected_frequency",
    "dashboards",
    "escalation",
    "needs",
    "drill",
}
ONE_PAGE = 120
LEAST_PAGES, LEAST_STEPS = 3, 18
VARIABLE = re.compile(r"\$\{?([A-Z][A-Z0-9_]*)")


def alerts() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for file in sorted((ROOT / "ops" / "alerts").glob("*.yml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                assert rule["alert"] not in found, f"two alerts are called {rule['alert']}: one page cannot serve both"
                found[rule["alert"]] = rule
    return found


PAGES = load_all()
STEPS = [(page, step) for page in PAGES for step in page.steps]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.stem)
each_step = pytest.mark.parametrize(("page", "step"), STEPS, ids=[f"{page.path.stem}-{s.name}" for page, s in STEPS])


def test_the_scan_sees_pages_and_steps() -> None:
    assert len(PAGES) >= LEAST_PAGES
    assert len(STEPS) >= LEAST_STEPS


def test_each_alert_has_a_page_and_each_page_an_alert() -> None:
    names, pages = set(alerts()), {page.path.stem for page in PAGES}
    assert len(names) >= LEAST_PAGES
    assert not names - pages, f"alerts without a page; write ops/runbooks/NAME.md: {sorted(names - pages)}"
    assert not pages - names, f"pages without an alert; write the rule in ops/alerts/: {sorted(pages - names)}"


@pytest.mark.parametrize(("name", "rule"), alerts().items(), ids=list(alerts()))
def test_alert_links_to_its_page_and_says_who_is_hurt(name: str, rule: dict[str, Any]) -> None:
    assert rule["annotations"]["runbook_url"] == f"{{{{ $externalLabels.runbooks }}}}/{name}.md"
    assert rule["annotations"]["impact"]
    assert rule["annotations"]["summary"]
    assert rule["for"], "without `for` a single bad scrape wakes a person"


@each_page
def test_front_matter_is_complete_and_agrees_with_the_alert(page: Runbook) -> None:
    assert set(page.front) == FRONT
    assert page.front["alert"] == page.path.stem
    assert page.front["severity"] == alerts()[page.path.stem]["labels"]["severity"]
    assert page.front["escalation"], "name at least one person or team to wake next"
    assert {"after", "to"} == set(page.front["escalation"][0])
    assert {"fault"} <= set(page.front["drill"]) <= {"fault", "load"}, "what nobody drills must not stand there"


@each_page
def test_sections_are_the_eight_in_their_order(page: Runbook) -> None:
    assert page.sections == SECTIONS
    assert len(page.path.read_text().splitlines()) <= ONE_PAGE, "one page: on-call reads it at 3 a.m."


@each_page
def test_page_has_all_three_kinds_of_steps_where_they_belong(page: Runbook) -> None:
    for kind in KINDS:
        steps = page.of(kind)
        assert steps, f"no {kind} step: on-call would have to invent it"
        assert {step.section for step in steps} == {kind.capitalize()}
    assert {step.run for step in page.steps} == set(KINDS)
    names = [step.name for step in page.steps]
    assert len(names) == len(set(names))


@each_page
def test_page_points_only_at_what_exists(page: Runbook) -> None:
    text = page.path.read_text()
    for target in re.findall(r"\]\(([\w./-]+)\)", text):
        assert (page.path.parent / target).exists(), target
    for target in re.findall(r"`((?:infra|ops|service)/[\w./-]+)`", text):
        assert (ROOT / target).exists(), target
    for setting in re.findall(r"`((?:DATABASE|REDIS|SESSION)_[A-Z_]+)`", text):
        from service.core.settings import Settings

        assert setting.lower() in Settings.model_fields, f"{setting} is not a setting"


@each_step
def test_step_says_what_to_expect(page: Runbook, step: Step) -> None:
    assert step.expect, "a step that cannot fail proves nothing: say what good (verify) or bad (diagnose) looks like"
    re.compile(step.expect)
    if step.run == "remediate":
        assert step.risk in {"low", "medium", "high"}
        assert step.undo, "say how to undo it, or none"


@each_step
def test_step_uses_only_variables_the_page_declares(page: Runbook, step: Step) -> None:
    used = set(VARIABLE.findall(step.script))
    if "ops/on" in step.script:
        used |= set(VARIABLE.findall((ROOT / "ops" / "on").read_text()))
    undeclared = used - set(page.front["needs"])
    assert not undeclared, f"the step runs with nothing but `needs` in its environment; declare {sorted(undeclared)}"


def test_the_scan_for_variables_sees_some() -> None:
    assert VARIABLE.findall((ROOT / "ops" / "on").read_text()).count("STACK") >= 1


@each_step
def test_step_passes_shellcheck(page: Runbook, step: Step, tmp_path: Path) -> None:
    script = tmp_path / f"{step.name}.sh"
    script.write_text(f"#!/bin/bash\nset -euo pipefail\n{step.script}")
    assert_shellcheck(script)


def test_shell_scripts_pass_shellcheck() -> None:
    scripts = [*ROOT.glob("infra/**/*.sh"), *ROOT.glob("ops/**/*.sh"), ROOT / "ops" / "on"]
    assert len(scripts) >= 6
    assert_shellcheck(*scripts)


def assert_shellcheck(*scripts: Path) -> None:
    done = subprocess.run([TOOLS / "shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def page_with(tmp_path: Path, block: str) -> Path:
    path = tmp_path / "Page.md"
    path.write_text(f"---\nalert: Page\nneeds: [GREETING]\n---\n## Diagnose\n{block}\n")
    return path


def test_step_runs_with_nothing_but_what_the_page_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREETING", "hello")
    monkeypatch.setenv("OTHER", "leak")
    block = '```bash {name=say run=diagnose expect="^hello:$"}\necho "$GREETING:${OTHER:-}"\n```'
    page = load(page_with(tmp_path, block))
    assert execute(page.steps[0], page.front["needs"]).matched
    assert not execute(page.steps[0], []).matched


def test_step_that_fails_does_not_match_even_when_the_words_fit(tmp_path: Path) -> None:
    page = load(page_with(tmp_path, '```bash {name=say run=verify expect="^fine$"}\necho fine\nfalse\n```'))
    outcome = execute(page.steps[0], [])
    assert (outcome.matched, outcome.code) == (False, 1)


@pytest.mark.parametrize(
    "attributes",
    ['run=verify expect="x"', 'name=a expect="x"', "name=a run=verify expcet=x", "name=a run=verify retry=x"],
)
def test_malformed_block_is_refused_with_its_place(tmp_path: Path, attributes: str) -> None:
    with pytest.raises(ValueError, match=r"Page\.md, section Diagnose"):
        load(page_with(tmp_path, f"```bash {{{attributes}}}\ntrue\n```"))
