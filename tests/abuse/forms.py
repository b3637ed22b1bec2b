"""Every form that the pages show, as a browser would read it: where it goes, what it holds, what kind each field is."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import httpx
from pydantic import BaseModel

from tests.architecture.conftest import Route
from tests.support.client import Client

NUMERIC = ("number", "range")
FIXED = ("hidden", "checkbox", "radio", "submit", "select")
HIDDEN_BY_ALL = ("csrf", "schema_version")


@dataclass
class Shown:
    """One form: the values that it came with, and the kinds of its fields."""

    action: str
    values: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

    @property
    def typed(self) -> list[str]:
        """What a person types into."""
        return [name for name, kind in self.kinds.items() if kind not in FIXED and kind != "file"]

    @property
    def own(self) -> list[str]:
        return [name for name in self.kinds if name not in HIDDEN_BY_ALL]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Shown] = []
        self.open: Shown | None = None
        self.select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.open = Shown(told.get("action", "")) if told.get("method", "").lower() == "post" else None
        elif self.open is None:
            return
        elif tag in ("input", "textarea") and "name" in told:
            kind = told.get("type", "text") if tag == "input" else tag
            self.open.kinds[told["name"]] = kind
            if kind != "checkbox" or "checked" in told:
                self.open.values[told["name"]] = told.get("value", "")
        elif tag == "select":
            self.select = told.get("name", "")
            self.open.kinds[self.select] = "select"
        elif tag == "option" and self.select and (self.select not in self.open.values or "selected" in told):
            self.open.values[self.select] = told.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form" and self.open is not None:
            self.forms.append(self.open)
            self.open = None
        elif tag == "select":
            self.select = ""


def forms_in(page: str) -> list[Shown]:
    reader = _Reader()
    reader.feed(page)
    return reader.forms


def pattern_of(route: Route) -> re.Pattern[str]:
    return re.compile("^" + re.sub(r"\\{[a-z_]+(\\:[a-z]+)?\\}", "[^/]+", re.escape(route.path)) + "$")


def read_by(route: Route) -> list[type[BaseModel]]:
    """The models that a handler, or a function beside it, reads a form into."""
    handler = inspect.unwrap(route.endpoint)
    known = handler.__globals__
    beside = [known.get(name) for name in handler.__code__.co_names]
    found = []
    for one in (handler, *(each for each in beside if inspect.isfunction(each) and each.__globals__ is known)):
        for node in ast.walk(ast.parse(inspect.cleandoc("\n" + inspect.getsource(one)))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Form.parse", "Form.sent") and node.args:
                model = _meant(node.args[0], known)
                if inspect.isclass(model) and issubclass(model, BaseModel):
                    found.append(model)
    return found


def _meant(node: ast.expr, known: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        return getattr(_meant(node.value, known), node.attr, None)
    return None


def as_read(route: Route, action: str) -> Shown:
    """A form of which no page was found: with the fields of what its handler reads, all typed."""
    shown = Shown(action)
    for model in read_by(route):
        for name in model.model_fields:
            shown.kinds[name], shown.values[name] = "text", "x"
    return shown


async def crawl(client: Client, addresses: list[str]) -> Iterator[tuple[Shown, httpx.Response]]:
    """Every form of every page, once; links are not followed, since the addresses are all there are."""
    found = []
    for one in addresses:
        answer = await client.get(one, follow_redirects=True)
        found += [(form, answer) for form in forms_in(answer.text)]
    return iter(found)
