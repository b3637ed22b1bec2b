"""Base classes for what comes in and what goes out.

What comes in is strict: unknown fields are refused (mass assignment), `true` is no integer, text carries neither NUL
nor lone surrogates (PostgreSQL refuses both, and a 500 would be ours). What goes out has no defaults: forgetting a
field is an error here, not a silent null for the client.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StringConstraints


class Input(BaseModel):
    """Base of every request body."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, strict=False, allow_inf_nan=False)


class Output(BaseModel):
    """Base of every answer."""

    model_config = ConfigDict(from_attributes=True, extra="ignore")


def storable_text(value: str) -> str:
    """Refuse what PostgreSQL cannot store and what hides in a name; RFC 8264 would refuse the same."""
    for character in value:
        category = unicodedata.category(character)
        if category == "Cs" or (category == "Cc" and character not in "\n\t"):
            raise ValueError("must not contain control characters")
    return unicodedata.normalize("NFC", value)


def one_line(value: str) -> str:
    if "\n" in value or "\t" in value:
        raise ValueError("must be on one line")
    return value


def not_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


Text = Annotated[str, AfterValidator(storable_text)]
Line = Annotated[str, AfterValidator(storable_text), AfterValidator(one_line)]
Name = Annotated[Line, StringConstraints(min_length=1, max_length=120)]
Number = Annotated[float, BeforeValidator(not_boolean)]
