"""Every macro of the shelf, fed with hostile text: it may be shown, it may never become markup."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from jinja2 import UndefinedError
from jinja2.runtime import Macro
from pydantic import BaseModel

from service.web.forms import Form
from service.web.staff.declared import Column
from service.web.templating import Page, environment
from tests.web.conftest import Elements, Person

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</textarea></select></title><svg onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;script&gt;",
]

CALLS = {
    "logo": "{{ ui.logo() }}",
    "link": "{{ ui.link(bad, bad) }}",
    "id": "{{ ui.id(bad) }}",
    "badge": "{{ ui.badge(bad, 'success') }}",
    "change": "{{ ui.change(0.1) }}{{ ui.change(none) }}{{ ui.change(-0.2, 'down') }}",
    "button": "{{ ui.button(bad, 'primary', 'plus', confirm=bad, name=bad, value=bad) }}",
    "button_link": "{{ ui.button_link(bad, bad, icon_name='plus', title=bad) }}",
    "post_button": "{{ ui.post_button(page, bad, bad, confirm=bad, values={bad: bad}) }}",
    "copy_button": "{{ ui.copy_button(bad, bad) }}",
    "hidden": "{{ ui.hidden(page, {bad: bad}) }}",
    "form": "{% call ui.form(page, form, bad, hx_post=bad, hx_target='#x') %}{{ bad }}{% endcall %}",
    "error_summary": "{{ ui.error_summary(form) }}",
    "field": """{{ ui.field(form, 'name', label=bad, hint=bad, placeholder=bad, autocomplete=bad) }}
        {{ ui.field(form, 'note', type='textarea') }}{{ ui.field(form, 'password', type='password', label=bad) }}
        {{ ui.field(form, 'colour', type='select', options=[bad, (bad, bad)]) }}
        {{ ui.field(form, 'terms', type='checkbox', label=bad, hint=bad) }}""",
    "notice": "{{ ui.notice(bad, 'danger', bad, bad, dismissible=true) }}",
    "empty_state": """{% call ui.empty_state('chart', bad, bad) %}{{ bad }}{% endcall %}
        {{ ui.empty_state('chart', bad, bad) }}""",
    "breadcrumbs": "{{ ui.breadcrumbs([(bad, bad)]) }}",
    "tabs": "{{ ui.tabs([(bad, bad), (bad, '/x')], '/x', bad) }}",
    "card": "{% call ui.card(bad, bad) %}{{ bad }}{% endcall %}",
    "definitions": "{{ ui.definitions([(bad, bad)]) }}",
    "tile": "<ul>{{ ui.tile(bad, bad, 12.5, bad, 0.1, 'up', [1, 2, 3], now, bad, bad) }}</ul>",
    "table": "{% call ui.table([bad, (bad, 'num'), (bad, 'sr')], bad) %}<tr></tr>{% endcall %}",
    "cell": "<table><tr>{{ ui.cell(bad, bad) }}{% call ui.cell(bad) %}{{ bad }}{% endcall %}</tr></table>",
    "pager": "{{ ui.pager(bad, bad, bad) }}",
    "count": "{{ ui.count(120, bad, bad) }}{{ ui.count(3) }}{{ ui.count(0) }}",
    "staff_crumbs": "{{ ui.staff_crumbs(staffed) }}",
    "staff_reason": "{{ ui.staff_reason(bad, bad) }}{{ ui.staff_reason('', bad) }}",
    "staff_value": """{% for column in columns %}{{ ui.staff_value(column, row, false, bad) }}{% endfor %}
        <p>{{ ui.staff_value(columns[0], row, true, bad) }}</p>""",
    "poll": "<section{{ ui.poll(bad, 60, bad) }}></section>",
}


class Row(BaseModel):
    name: str


def typed_form(text: str) -> Form[Person]:
    form = Form(Person, {"name": text, "email": text, "note": text, "colour": text, "password": text})
    for name in ("name", "email", "password", ""):
        form.add_error(name, text)
    return form


def draw(source: str, page: Page, **values: Any) -> str:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return environment().from_string(source).render(page=page, now=now, **values)


def test_every_macro_is_here() -> None:
    macros = {name for name, value in vars(environment().globals["ui"]).items() if isinstance(value, Macro)}
    assert len(macros) >= 20
    assert macros == set(CALLS), "write a hostile call for each macro of ui.html"


@pytest.mark.parametrize("bad", HOSTILE)
@pytest.mark.parametrize("macro", CALLS)
def test_hostile_text_never_becomes_markup(macro: str, bad: str, page: Page) -> None:
    staffed = replace(page, path="/staff/x/1", staff_pages=((bad, bad), (bad, "/staff/x")))
    columns = [Column(bad, "name"), Column(bad, "name", "{name}"), Column(bad, "name", badges={bad: "success"})]
    values = {"staffed": staffed, "columns": columns, "row": Row(name=bad)}
    html = draw(CALLS[macro], page, bad=bad, form=typed_form(bad), **values)
    found = Elements(html).found
    assert found
    for tag, attributes in found:
        assert tag not in ("script", "img", "iframe", "style"), html
        for name, value in attributes.items():
            assert not name.startswith("on"), html
            assert name != "style", html
            if name in ("href", "action", "src", "formaction", "hx-get", "hx-post"):
                assert value.startswith(("/", "#")), html


def test_htmx_attributes_of_a_form_go_through_the_address_check(page: Page) -> None:
    html = draw(CALLS["form"], page, bad="javascript:alert(1)", form=typed_form("x"))
    [form] = Elements(html).named("form")
    assert (form["action"], form["hx-post"], form["hx-target"]) == ("#", "#", "#x")


@pytest.mark.parametrize("name", ["onclick", "style", "hx_on_click", "x y", "a=b", "a>b"])
def test_attributes_that_carry_code_or_style_are_refused(name: str, page: Page) -> None:
    with pytest.raises(ValueError, match="no attribute"):
        draw("<a{{ {name: 'x'}|attributes }}></a>", page, name=name)


def test_a_missing_value_is_an_error(page: Page) -> None:
    with pytest.raises(UndefinedError):
        draw("{{ missing }}", page)


def test_an_icon_that_is_not_drawn_is_an_error(page: Page) -> None:
    with pytest.raises(LookupError, match="gauge"):
        draw("{{ icon('unicorn') }}", page)


def test_a_labelled_icon_speaks_and_a_bare_one_is_silent(page: Page) -> None:
    spoken, silent = Elements(draw("{{ icon('plus', 'Add \"it\"') }}{{ icon('plus') }}", page)).named("svg")
    assert (spoken["role"], spoken["aria-label"]) == ("img", 'Add "it"')
    assert silent["aria-hidden"] == "true"


def test_a_field_is_wired_to_its_hint_and_error(page: Page) -> None:
    form = Form(Person, {"name": "Ada"})
    form.add_error("name", "Choose another name.")
    html = draw("{{ ui.field(form, 'name', autocomplete='name') }}", page, form=form)
    elements = Elements(html)
    [control] = elements.named("input")
    assert control["value"] == "Ada"
    assert control["aria-invalid"] == "true"
    assert "required" in control
    assert (control["maxlength"], control["autocomplete"]) == ("120", "name")
    described = control["aria-describedby"].split()
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert described == ["f-name-hint", "f-name-error"]
    assert set(described) <= set(ids)
    assert elements.named("label", for_=control["id"])
    assert "As your colleagues know you." in elements.text
    assert "Choose another name." in elements.text


def test_an_optional_field_says_so_and_a_secret_is_never_shown(page: Page) -> None:
    form = Form(Person, {"note": "kept", "password": "hunter2-hunter2"})
    html = draw(
        "{{ ui.field(form, 'note', type='textarea') }}{{ ui.field(form, 'password', type='password') }}",
        page,
        form=form,
    )
    assert "(optional)" in html
    assert "kept</textarea>" in html
    assert "hunter2" not in html


def test_the_error_summary_takes_focus_and_leads_to_the_fields(page: Page) -> None:
    form = Form(Person)
    assert draw("{{ ui.error_summary(form) }}", page, form=form).strip() == ""
    form.add_error("email", "Fill in this field.")
    form.add_error("", "The link has expired.")
    elements = Elements(draw("{{ ui.error_summary(form) }}", page, form=form))
    [box] = elements.named("div", role="alert")
    assert "autofocus" in box
    assert box["tabindex"] == "-1"
    assert elements.named("a", href="#f-email")
    assert "Email: Fill in this field." in elements.text
    assert "The link has expired." in elements.text


def test_a_post_button_is_a_form_with_its_token(page: Page) -> None:
    elements = Elements(draw("{{ ui.post_button(page, '/x', 'Go', values={'to': '1'}) }}", page))
    assert elements.named("form", method="post", action="/x")
    assert elements.named("input", type="hidden", name="csrf", value="csrf-token")
    assert elements.named("input", type="hidden", name="to", value="1")


def test_a_change_is_good_or_bad_by_what_counts(page: Page) -> None:
    html = draw(
        "{% for r, g in cases %}[{{ ui.change(r, g) }}]{% endfor %}",
        page,
        cases=[(0.1, "up"), (0.1, "down"), (-0.1, "down"), (0.1, ""), (0, "up")],
    )
    kinds = [attributes["class"] for attributes in Elements(html).named("span")]
    assert kinds == ["change good", "change bad", "change good", "change", "change"]


def test_a_tile_without_readings_says_so(page: Page) -> None:
    tile = SimpleNamespace(name="Tickets", values=())
    text = Elements(draw("{{ ui.tile('/t', tile.name, none, values=tile.values) }}", page, tile=tile)).text
    assert "No readings yet" in text
