"""Rules about every template of the repository: nothing inline, nothing unescaped, no form without its token."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.web.markup import icon_names
from service.web.templating import SHELF
from tests.web.conftest import ROOT

SERVICE = ROOT / "service"
TEMPLATES = sorted(SERVICE.glob("**/templates/**/*.html"))
SCRIPTS = sorted((SERVICE / "web" / "static").glob("*.js"))

UNESCAPED: set[str] = set()
"""Templates reviewed for `|safe` or autoescape off; empty, and meant to stay so."""

STYLED = "inline style (use a class of app.css)"
IN_PLACE = {
    ("service/web/templates/mail.html", STYLED): "mailboxes throw style sheets away, and no policy of ours holds"
}
WITHOUT_TOKEN = {"service/features/notifications/templates/unsubscribe.html": "its signed link is the proof (RFC 8058)"}

FORBIDDEN = {
    STYLED: r"<style|\sstyle\s*=",
    "inline script (use app.js and a data attribute)": r"<script(?![^>]*\ssrc=)",
    "inline handler (use app.js and a data attribute)": r"\s(?:hx-)?on[:a-z][a-z:-]*\s*=",
    "code in an address": r"(?i)javascript:|vbscript:|data:text/html",
    "htmx code from strings, which the CSP refuses": (
        r"""hx-(?:vals|headers|confirm)[^=>]*=["'](?:js|javascript):|hx-trigger="[^"]*\["""
    ),
    "unescaped output": r"\|\s*safe\b|autoescape\s+false|Markup\(",
    "file without its content hash (use asset())": r"""(?:src|href)="/static/""",
    "another site's file": r"""<(?:script|link|img|iframe)[^>]*(?:src|href)="https?:""",
}


def text_of(path: Path) -> str:
    return path.read_text("utf-8")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def findings(text: str) -> list[str]:
    """`{% set one = ... %}` is no attribute: what stands in tags of the template language never leaves as it is."""
    written = re.sub(r"{%.*?%}", "", text, flags=re.S)
    return [
        rule
        for rule, pattern in FORBIDDEN.items()
        if re.search(pattern, written if rule.startswith("inline handler") else text)
    ]


def test_the_scan_sees_the_shelf_and_the_features() -> None:
    assert {path.name for path in SHELF.glob("*.html")} <= {path.name for path in TEMPLATES}
    assert len([path for path in TEMPLATES if SHELF in path.parents]) >= 9
    assert len([path for path in TEMPLATES if SERVICE / "features" in path.parents]) >= 10


@pytest.mark.parametrize("path", TEMPLATES, ids=relative)
def test_nothing_inline_and_nothing_unescaped(path: Path) -> None:
    found = [
        rule
        for rule in findings(text_of(path))
        if not (rule == "unescaped output" and relative(path) in UNESCAPED) and (relative(path), rule) not in IN_PLACE
    ]
    assert not found, f"{relative(path)}: {found}"


@pytest.mark.parametrize(
    "bad",
    [
        '<p style="color: red">', "<style>", "<script>x()</script>", '<a onclick="x()">', '<a hx-on:click="x()">',
        '<a href="javascript:x()">', "{{ text|safe }}", "{{ text | safe }}", "{% autoescape false %}",
        """<a hx-vals='js:{a: 1}'>""", '<a hx-trigger="click[ctrlKey]">', '<link href="/static/app.css">',
        '<script src="https://cdn.example/x.js"></script>', "<a\nonclick='x()'>",
    ],
)  # fmt: skip
def test_the_rules_bite(bad: str) -> None:
    assert findings(bad)


@pytest.mark.parametrize(
    "good", ['<script src="{{ asset("app.js") }}">', "<p class=on data-on=1>", "{{ safe_name }}", "<a data-once=1>"]
)
def test_the_rules_leave_the_rest_alone(good: str) -> None:
    assert not findings(good)


def test_every_post_form_carries_the_token() -> None:
    forms = [
        (relative(path), form)
        for path in TEMPLATES
        for form in re.findall(r"<form\b[^>]*method=\"post\".*?</form>", text_of(path), flags=re.S)
    ]
    assert len(forms) >= 4
    bare = {name for name, form in forms if not re.search(r"\bhidden\(page", form)}
    assert bare >= set(WITHOUT_TOKEN), "take what is no exception any more out of the list"
    bare -= set(WITHOUT_TOKEN)
    assert not bare, f"{bare}: use ui.form or ui.post_button, or put {{{{ ui.hidden(page) }}}} into the form"


def test_addresses_that_begin_with_a_value_are_checked() -> None:
    """Escaping does not stop `javascript:`; a value at the start of an address goes through safe_url.

    `src` is left out: no browser runs code from the address of a picture, and the policy allows no other site's.
    """
    pattern = re.compile(
        r"(?<![\w-])(?:href|action|formaction|hx-(?:get|post|put|patch|delete))=\"\{\{\s*([^}]*?)\s*\}\}"
    )
    found = [(path, match) for path in TEMPLATES for match in pattern.findall(text_of(path))]
    assert len(found) >= 10
    loose = [
        f"{relative(path)}: {expression}"
        for path, expression in found
        if "safe_url" not in expression
        and not expression.startswith(("asset(", '"/'))
        and not re.search(rf"{{%\s*set {re.escape(expression)} = \"/", text_of(path))
    ]
    assert not loose, f"{loose}: add |safe_url, or use ui.link or ui.button_link"


def test_every_icon_that_is_named_is_drawn() -> None:
    pattern = re.compile(r"""(?:\bicon\(|icon_name=|\bempty_state\()\s*["']([^"']+)["'](?!\s*~)""")
    used = {(relative(path), name) for path in TEMPLATES for name in pattern.findall(text_of(path))}
    pages = [path for path in SERVICE.glob("features/**/*.py") if "NavItem(" in text_of(path)]
    used |= {
        (relative(path), icon)
        for path in pages
        for icon in re.findall(r"NavItem\(\s*\"[^\"]*\",\s*\"[^\"]*\",\s*\"([^\"]*)\"", text_of(path))
    }
    assert len(used) >= 20
    missing = {(where, name) for where, name in used if name not in icon_names()}
    assert not missing, f"{missing}: draw it in static/icons.svg or choose one of {sorted(icon_names())}"


def test_scripts_make_no_code_or_markup_from_strings() -> None:
    assert {path.name for path in SCRIPTS} == {"app.js", "theme.js"}
    pattern = r"\beval\(|new Function|(?:inner|outer)HTML|insertAdjacentHTML|document\.write|\(\"style\"|\.on[a-z]+ ="
    for path in SCRIPTS:
        assert not re.search(pattern, text_of(path)), path.name
