"""Forms: what was typed stays, what is wrong is said beside it, and no body makes a 500."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from service.guardrails.cards import SENTENCE
from service.web.forms import MOST_BYTES, MOST_FIELDS, Form
from tests.web.conftest import VERSION, Elements, Person

GOOD = {"name": "Ada", "email": "ada@example.com", "password": "correct horse battery"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def filled(pairs: list[tuple[str, str]]) -> Form[Person]:
    form = Form(Person)
    form._take(pairs)
    return form


def good(**changed: str) -> list[tuple[str, str]]:
    return list({**GOOD, **changed}.items())


def test_a_good_form_is_the_model() -> None:
    form = filled(good(age="42", terms="on"))
    assert form.valid
    assert form.data.password.get_secret_value() == GOOD["password"]
    assert form.data.model_dump(exclude={"password"}) == {
        "name": "Ada", "email": "ada@example.com", "age": 42, "share": None, "note": "", "colour": "red",
        "terms": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "field", "sentence"),
    [
        ({"name": ""}, "name", "Fill in this field."),
        ({"name": "  "}, "name", "Fill in this field."),
        ({"name": "x" * 121}, "name", "Use at most 120 characters."),
        ({"name": "a\nb"}, "name", "Must be on one line."),
        ({"name": "a\0b"}, "name", "Remove the invisible characters; typing it anew helps."),
        ({"name": "a\ud800b"}, "name", "Remove the invisible characters; typing it anew helps."),
        ({"name": "a\x1b[2Jb"}, "name", "Remove the invisible characters; typing it anew helps."),
        ({"name": "a" + chr(0xFFFD)}, "name", "Remove the invisible characters; typing it anew helps."),
        ({"email": "ada"}, "email", "Enter an e-mail address like name@example.com."),
        ({"email": "ada@" + "x" * 5000 + ".com"}, "email", "Enter an e-mail address like name@example.com."),
        ({"password": "short"}, "password", "Use at least 8 characters."),
        ({"age": "abc"}, "age", "Enter a whole number, for example 42."),
        ({"age": "1.5"}, "age", "Enter a whole number, for example 42."),
        ({"age": "9" * 5000}, "age", "Enter a whole number, for example 42."),
        ({"age": "17"}, "age", "Enter 18 or more."),
        ({"age": "131"}, "age", "Enter 130 or less."),
        ({"share": "nan"}, "share", "Enter a number, for example 12.5."),
        ({"share": "1e999"}, "share", "Enter a number, for example 12.5."),
        ({"share": "x"}, "share", "Enter a number, for example 12.5."),
        ({"terms": "maybe"}, "terms", "Tick or untick the box."),
    ],
)  # fmt: skip
def test_each_mistake_has_its_sentence(changed: dict[str, str], field: str, sentence: str) -> None:
    form = filled(good(**changed))
    assert form.errors == {field: sentence}
    assert not form.valid


def test_one_card_number_in_neighbouring_fields_is_refused_in_each_and_not_shown_again() -> None:
    form = filled([("name", "4111 1111"), ("age", ""), ("email", "1111 1111"), ("note", "hello")])
    assert {name: form.errors.get(name) for name in ("name", "email", "note")} == {
        "name": SENTENCE, "email": SENTENCE, "note": None,
    }  # fmt: skip
    assert [form.value(name) for name in ("name", "email", "note")] == ["", "", "hello"]
    for other in ("1111 1112", "11111 111", "or 1111 1111"):
        assert SENTENCE not in filled(good(name="4111 1111", email=other)).errors.values()


def test_an_empty_optional_field_is_its_default_and_an_unticked_box_is_false() -> None:
    form = filled(good(age="", share="", note=""))
    assert (form.data.age, form.data.share, form.data.note, form.data.terms) == (None, None, "", False)


def test_unknown_fields_are_refused_without_naming_them() -> None:
    """Mass assignment (OWASP API3): `is_staff=1` in a sign-up form must not even be near the model."""
    form = filled([*good(), ("is_staff<script>", "1")])
    assert form.errors == {"": "The form has fields that do not belong here. Reload the page and try again."}


def test_a_field_sent_twice_is_refused() -> None:
    form = filled([*good(), ("email", "other@example.com")])
    assert form.errors == {"email": "This was sent twice. Reload the page and try again."}


def test_passwords_count_as_typed_and_are_never_shown() -> None:
    form = filled([("password", "  spaces count  "), ("name", "  Ada  ")])
    assert form._typed["password"] == ["  spaces count  "]
    assert (form.value("password"), form.value("name")) == ("", "Ada")


def test_line_breaks_of_browsers_become_plain() -> None:
    assert filled(good(note="one\r\ntwo")).data.note == "one\ntwo"


def test_actions_add_their_errors() -> None:
    form = filled(good())
    form.add_error("name", "Taken.")
    form.add_error("name", "Second.")
    form.add_error("nowhere", "General.")
    assert form.summary == [("f-name", "Your name: Taken."), ("", "General.")]
    assert not form.valid


def test_data_of_a_wrong_form_cannot_be_used() -> None:
    with pytest.raises(RuntimeError, match="valid"):
        _ = filled([]).data


def test_models_must_forbid_unknown_fields() -> None:
    class Loose(BaseModel):
        name: str

    with pytest.raises(TypeError, match="forbid"):
        Form(Loose)


def test_a_template_cannot_name_a_field_that_is_not_there() -> None:
    with pytest.raises(KeyError):
        Form(Person).value("nmae")


@given(st.lists(st.tuples(st.sampled_from([*Person.model_fields, "other"]), st.text(st.characters()))))
def test_any_text_gives_sentences_or_a_model(pairs: list[tuple[str, str]]) -> None:
    form = filled(pairs)
    assert form.valid or form.errors
    for _, sentence in form.summary:
        assert sentence.endswith((".", "!", "?"))
    for name in Person.model_fields:
        form.value(name).encode("utf-8")


async def test_a_wrong_form_comes_back_with_422_and_what_was_typed(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/form", data={**GOOD, "name": "", "note": "<b>kept</b>", "terms": "on", "colour": "blue"}
    )
    assert answer.status_code == 422
    elements = Elements(answer.text)
    assert elements.named("input", name="email", value="ada@example.com")
    assert "<b>kept</b>" in elements.text
    [box] = elements.named("input", name="terms")
    assert "checked" in box
    assert "selected" in elements.named("option", value="blue")[0]
    assert elements.named("input", name="name", aria_invalid="true")
    assert GOOD["password"] not in answer.text


async def test_a_good_form_redirects(client: httpx.AsyncClient) -> None:
    answer = await client.post("/form", data={**GOOD, "csrf": "x", "schema_version": VERSION})
    assert (answer.status_code, answer.headers["location"]) == (303, "/things")


async def test_what_an_action_refuses_stands_beside_its_field(client: httpx.AsyncClient) -> None:
    answer = await client.post("/form", data={**GOOD, "name": "Taken"})
    assert answer.status_code == 422
    assert "Your name: Choose another name." in answer.text


async def test_a_form_from_before_a_deploy_is_shown_again_and_not_saved(client: httpx.AsyncClient) -> None:
    answer = await client.post("/form", data={**GOOD, "schema_version": "2020_01_01"})
    assert answer.status_code == 422
    assert "This page has been updated since you opened it." in answer.text
    assert 'value="Ada"' in answer.text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"&&&===&=", 422),
        (b"name=%ff%fe&email=%ED%A0%80", 422),
        (b"name=%00&email=%00", 422),
        (b"%00=1", 422),
        (b"name=" + quote("\u202e\u2066").encode(), 422),
        (b"name=%", 422),
        (b"\xff\xfe\x00", 422),
        (b"name=" + b"A" * (MOST_BYTES + 1), 413),
        (b"a=1&" * (MOST_FIELDS + 1), 413),
        (urlencode([(f"f{i}", "x") for i in range(MOST_FIELDS + 1)]).encode(), 413),
        (b"x" * (MOST_BYTES + 10), 413),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else str(value),
)
async def test_hostile_bodies_get_a_clear_refusal(client: httpx.AsyncClient, body: bytes, status: int) -> None:
    answer = await client.post("/form", content=body, headers=FORM)
    assert answer.status_code == status
    assert "text/html" in answer.headers["content-type"]


async def test_what_came_in_is_decoded_once(client: httpx.AsyncClient) -> None:
    """What was written twice over stays written once: nothing behind a check makes another character of it."""
    for sent, shown in (
        ("%252e%252e%252f", "%2e%2e%2f"),
        ("%26lt%3Bb%26gt%3B", "&amp;lt;b&amp;gt;"),
        ("%255Cu0041", "%5Cu0041"),
    ):
        answer = await client.post("/form", content=f"name={sent}&email=ada".encode(), headers=FORM)
        assert answer.status_code == 422
        assert f'value="{shown}"' in answer.text


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "text/plain",
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "application/x-www-form-urlencodedx",
        "\xff",
    ],
)
async def test_anything_but_a_form_is_415(client: httpx.AsyncClient, content_type: str) -> None:
    headers = {b"content-type": content_type.encode("latin-1")} if content_type else {}
    answer = await client.post("/form", content=b'{"name": "Ada"}', headers=headers)
    assert answer.status_code == 415
    assert "Send the form from its page in a browser." in answer.text


@pytest.mark.parametrize("length", ["99999999999999999999", "abc", "-1"])
async def test_a_lying_length_is_no_server_error(client: httpx.AsyncClient, length: str) -> None:
    answer = await client.post("/form", content=urlencode(GOOD).encode(), headers={**FORM, "Content-Length": length})
    assert answer.status_code in (303, 413)
