"""What comes in is strict: text that PostgreSQL cannot store, and numbers that are none, never reach it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from service.core.schemas import Input, Line, Name, Number, Text


class Sample(Input):
    text: Text = ""
    line: Line = ""
    name: Name = "x"
    number: Number = 0.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("text", "nul\x00"),
        ("text", "\ud800"),
        ("text", "bell\x07"),
        ("line", "two\nlines"),
        ("name", "   "),
        ("name", "x" * 121),
        ("number", True),
        ("number", float("nan")),
        ("number", float("inf")),
        ("unknown", 1),
    ],
)
def test_hostile_values_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Sample.model_validate({field: value})


def test_text_is_trimmed_and_normalized() -> None:
    made = Sample(text="  two\nlines\t", line="e\u0301")
    assert (made.text, made.line) == ("two\nlines", "\u00e9")
