"""Whatever is done for a purpose that people decide about asks first, and what people agreed to keeps its words."""

from __future__ import annotations

import ast
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from service.core.features import load
from service.features import FEATURES
from service.guardrails.jobs import JOBS, Retry
from service.guardrails.jobs.registry import Job
from service.guardrails.purposes import PURPOSES, SERVED, Basis, Purpose
from service.web.mail import LETTERS
from tests.architecture.conftest import SERVICE
from tests.architecture.reviewed import AGREED_WORDS, JOBS_BY_THE_CLOCK

LEAST_PURPOSES, LEAST_PERIODIC, LEAST_MAILS = 2, 6, 7
Sources = dict[Path, ast.Module]


def name_of(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def words_of(aim: Purpose) -> str:
    return sha256(aim.text.encode()).hexdigest()[:16]


def test_words_that_people_agreed_to_change_only_with_their_version() -> None:
    load(FEATURES, "models")
    assert len(PURPOSES) >= LEAST_PURPOSES, "the scan sees too little"
    found = {f"{aim.name} {aim.version}": words_of(aim) for aim in PURPOSES.values()}
    assert found.items() <= AGREED_WORDS.items(), (
        f"{found}: other words need another version, or nobody is asked again; then add it to AGREED_WORDS in "
        "tests/architecture/reviewed.py, and leave the earlier ones there"
    )


def unasked(sources: Sources) -> list[str]:
    """Jobs that serve a purpose without asking `permitted`, and purposes that nothing serves."""
    load(FEATURES, "jobs")
    bare, seen = [], 0
    for tree in sources.values():
        for function in ast.walk(tree):
            if not isinstance(function, ast.AsyncFunctionDef):
                continue
            marks = [mark for mark in function.decorator_list if isinstance(mark, ast.Call)]
            for mark in marks:
                if name_of(mark.func) != "serves":
                    continue
                seen, aim = seen + 1, ast.unparse(mark.args[0])
                calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
                asks = [one for one in calls if name_of(one.func) in ("permitted", "permits", "count_permitted")]
                if not any(aim in map(ast.unparse, one.args) for one in asks):
                    bare.append(f"{function.name} does not ask permitted(..., {aim}, ...)")
    assert seen >= LEAST_PURPOSES, "the scan sees too few jobs that serve a purpose"
    return bare + [f"nothing serves {name}: a choice without effect" for name in PURPOSES if not SERVED.get(name)]


def test_whatever_serves_a_purpose_asks(sources: Sources) -> None:
    assert not unasked(sources)


def unreviewed() -> set[str]:
    load(FEATURES, "jobs")
    serving = {place.rpartition(".")[2] for places in SERVED.values() for place in places}
    periodic = {name for name, job in JOBS.items() if job.schedule and name.partition(".")[2] not in serving}
    assert len(periodic) >= LEAST_PERIODIC, f"the scan saw only {len(periodic)} jobs that run by the clock"
    return periodic ^ set(JOBS_BY_THE_CLOCK)


def test_what_runs_by_the_clock_says_what_for() -> None:
    """Nobody asked for it at this moment, so it is where people's data are used behind their backs."""
    found = unreviewed()
    assert not found, (
        f"{sorted(found)}: does it use people's data for something the product would work without? Then declare a "
        "purpose, say @serves(PURPOSE) and ask permitted(). Otherwise say why not in JOBS_BY_THE_CLOCK"
    )


def careless(sources: Sources) -> list[str]:
    """Notices that are sent without saying to whom; and mail that does not go through `deliver`."""
    found, seen = [], 0
    for path, tree in sources.items():
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call):
                continue
            where = f"{path.relative_to(SERVICE)}:{call.lineno}"
            if name_of(call.func) == "send" and "mailer" in ast.unparse(call.func).lower() and path.name != "mail.py":
                found.append(f"{where} sends past service.web.mail")
            if name_of(call.func) in ("deliver", "compose_for") and len(call.args) >= 4:
                seen += 1
                template = call.args[2]
                letter = LETTERS.get(str(template.value)) if isinstance(template, ast.Constant) else None
                notice = letter is not None and (letter.reach == "notice" or letter.purpose is not None)
                if notice and len(call.args) < 5:
                    found.append(f"{where} sends a notice and does not say to whom")
    assert seen >= LEAST_MAILS, f"the scan saw only {seen} mails"
    return found


def test_every_notice_says_whose_data_it_uses(sources: Sources) -> None:
    load(FEATURES, "jobs")
    assert not careless(sources)


def test_each_rule_bites(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_probe(source: str) -> Sources:
        return {**sources, SERVICE / "features" / "probe" / "jobs.py": ast.parse(source)}

    assert unasked(with_probe("@serves(NEWS)\nasync def probe(ctx): await permitted(raw, OTHER, people)")) == [
        "probe does not ask permitted(..., NEWS, ...)"
    ]
    assert "past service.web.mail" in careless(with_probe("await mailer.send(mail)"))[0]
    notice = "deliver(ctx, to, 'organizations/mail/invitation', reference, link=link)"
    assert "does not say to whom" in careless(with_probe(notice))[0]
    probe = Purpose("probe", "Probe", "Words.", Basis.CONSENT)
    monkeypatch.setitem(PURPOSES, "probe", probe)
    assert "nothing serves probe: a choice without effect" in unasked(sources)
    with pytest.raises(AssertionError, match="other words need another version"):
        test_words_that_people_agreed_to_change_only_with_their_version()

    async def body(ctx: Any) -> None: ...

    job = Job("probe.body", body, None, Retry(), JOBS["consents.mail_news"].timeout, True, "* * * * *")
    monkeypatch.setitem(JOBS, "probe.body", job)
    assert unreviewed() == {"probe.body"}
