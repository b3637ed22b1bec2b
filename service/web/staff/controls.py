"""How a form's field looks, found from its type: declarations name no widgets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from service.core.schemas import Input

LINE = 500
"""Characters; what may be longer is typed into more than one line."""


@dataclass(frozen=True, slots=True)
class Control:
    name: str
    type: str = "text"
    options: tuple[tuple[str, str], ...] = ()


def controls_of(model: type[Input]) -> list[Control]:
    """Fields marked `json_schema_extra={"hidden": True}` are filled by the link to the form."""
    return [
        Control(name, "hidden")
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("hidden")
        else _control(name, list(_kinds(field.annotation)), _most(field))
        for name, field in model.model_fields.items()
    ]


def _most(field: FieldInfo) -> int:
    return next((item.max_length for item in field.metadata if hasattr(item, "max_length")), 0)


def _control(name: str, kinds: list[Any], most: int) -> Control:
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    words += [one.value for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum) for one in kind]
    if words:
        if type(None) in kinds and "" not in words:
            words.insert(0, "")
        return Control(name, "select", tuple((str(word), _said(str(word))) for word in words))
    if bool in kinds:
        return Control(name, "checkbox")
    if date in kinds and datetime not in kinds:
        return Control(name, "date")
    if name == "email":
        return Control(name, "email")
    return Control(name, "number" if int in kinds else "textarea" if most > LINE else "text")


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types that a field's annotation is made of, without what it says about them."""
    if get_origin(annotation) is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif get_origin(annotation) is Union or isinstance(annotation, UnionType):
        for part in get_args(annotation):
            yield from _kinds(part)
    else:
        yield annotation


def _said(word: str) -> str:
    return word.replace("_", " ").capitalize() if word else "Any"
