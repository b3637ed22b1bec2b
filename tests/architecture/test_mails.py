"""Every mail that can be sent is declared, and reads well with the values that its declaration shows."""

from __future__ import annotations

import re

import pytest

from service.core.features import load
from service.features import FEATURES
from service.guardrails.mailing import Reach
from service.web.mail import LETTERS, compose, letter
from tests.architecture.conftest import SERVICE

FOLDERS = SERVICE / "features"
MAILS = 14


def templates() -> set[str]:
    load(FEATURES, "jobs")
    found = {f"{path.parts[-4]}/mail/{path.stem}" for path in FOLDERS.glob("*/templates/mail/*.txt")}
    assert len(found) >= MAILS, f"the scan saw only {len(found)} mails"
    return found


def undeclared() -> set[str]:
    return templates() ^ set(LETTERS)


def test_every_template_is_declared_with_its_reach_and_a_sample() -> None:
    assert not undeclared(), f"{undeclared()}: say letter(template, Reach..., **sample) where it is sent from"


def flaws(template: str) -> list[str]:
    """What a reader would stumble over."""
    stop = {"unsubscribe": "https://app.example/unsubscribe/x"} if LETTERS[template].reach is Reach.NOTICE else {}
    subject, text, html = compose(template, **{**LETTERS[template].sample, **stop})
    found = []
    if not 10 <= len(subject) <= 100:
        found.append("a subject of 10 to 100 characters")
    if max(map(len, text.splitlines())) > 400:
        found.append("shorter lines")
    if "{{" in text + html or "None" in text:
        found.append("values in place of their names")
    if any(f'<a href="{line}">' not in html for line in text.splitlines() if line.startswith("https://")):
        found.append("links that can be clicked")
    if re.search(r"<(script|img|link|form)\b|https?://(?!app\.example)", html):
        found.append("nothing that is fetched from elsewhere")
    return found


def test_every_template_reads_well_with_its_sample() -> None:
    bad = {template: found for template in sorted(templates() & set(LETTERS)) if (found := flaws(template))}
    assert not bad, f"these mails want: {bad}"


def test_an_undeclared_and_a_broken_one_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    templates()
    monkeypatch.setattr("service.web.mail.LETTERS", LETTERS)
    known = dict(LETTERS)
    try:
        del LETTERS["accounts/mail/reset"]
        with pytest.raises(AssertionError, match="accounts/mail/reset"):
            test_every_template_is_declared_with_its_reach_and_a_sample()
        letter("accounts/mail/reset", Reach.ASKED, link="https://elsewhere.example/")
        assert flaws("accounts/mail/reset") == ["nothing that is fetched from elsewhere"]
    finally:
        LETTERS.update(known)
