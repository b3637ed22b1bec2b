"""HTML forms over the same pydantic models that the API takes: what was typed stays, each error stands by its field.

form = await Form.parse(SignUp, request)
if form.valid:
    try:
        await actions.sign_up(ctx, form.data)
        return redirect(request, "/welcome")
    except ServiceError as error:      # rules the model cannot know
        form.refuse(error)
return render(request, "accounts/sign_up.html", form=form)      # 422
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, TypeVar, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from python_multipart.exceptions import FormParserError
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from service.core.errors import BadRequest, PayloadTooLarge, ServiceError, UnsupportedMedia
from service.guardrails import cards
from service.guardrails.browser import CSRF_FIELD
from service.web.sentences import message_for

M = TypeVar("M", bound=BaseModel)

CONTENT_TYPE: Final = "application/x-www-form-urlencoded"
SCHEMA_FIELD: Final = "schema_version"
UNSEEN: Final = (CSRF_FIELD, SCHEMA_FIELD)
"""Sent by every form, read by guard rails, never part of a model."""

MOST_FIELDS = 200
MOST_BYTES = 256 * 1024
MOST_LOOKED_AT = 20_000
"""Characters of a field in which a card number is sought; none takes as many."""
WHOLE: Final = ""
"""The key of errors that belong to no single field."""


class Form(Generic[M]):
    """What was typed, what is wrong with it, and the validated model when nothing is.

    `Form(Model)` is empty; `Form(Model, {"name": ...})` shows present values for editing. Models must forbid unknown
    fields (mass assignment). Labels and hints come from `Field(title=, description=)`. Secret fields (SecretStr) are
    never shown again.
    """

    def __init__(self, model: type[M], initial: Mapping[str, object] | None = None, *, prefix: str = "f") -> None:
        if model.model_config.get("extra") != "forbid":
            raise TypeError(f"{model.__name__} must forbid unknown fields: inherit from service.core.schemas.Input")
        self.model = model
        self.prefix = prefix
        self.errors: dict[str, str] = {}
        self._data: M | None = None
        self._typed = {name: _as_typed(value) for name, value in (initial or {}).items() if name in model.model_fields}

    @classmethod
    async def parse(cls, model: type[M], request: Request, *, prefix: str = "f") -> Form[M]:
        """Read and check the body. Raises UnsupportedMedia, PayloadTooLarge or BadRequest for what is no form at all;
        wrong values never raise, they become `errors`."""
        return cls.sent(model, request, await _read(request), prefix=prefix)

    @classmethod
    def sent(cls, model: type[M], request: Request, pairs: Sequence[tuple[str, str]], *, prefix: str = "f") -> Form[M]:
        """The same for what came otherwise: the fields before a file."""
        form = cls(model, prefix=prefix)
        form._take([(name, value) for name, value in pairs if name not in UNSEEN])
        expected = str(getattr(request.app.state, "schema_version", ""))
        if any(name == SCHEMA_FIELD and value != expected for name, value in pairs):
            # A page from before a deploy: its fields may mean something else now. Show the new form, keep the typing.
            form.add_error(WHOLE, "This page has been updated since you opened it. Check the form and send it again.")
        return form

    @classmethod
    def from_query(
        cls, model: type[M], request: Request, initial: Mapping[str, object] | None = None, *, prefix: str = "f"
    ) -> Form[M]:
        """What a GET form put into the address, beside what others put there; `initial` is shown while nothing is."""
        asked = [(name, value) for name, value in request.query_params.multi_items() if name in model.model_fields]
        form = cls(model, None if asked else initial, prefix=prefix)
        if asked or initial is None:
            form._take(asked)
        return form

    @property
    def valid(self) -> bool:
        return self._data is not None and not self.errors

    @property
    def data(self) -> M:
        """The validated model; only when `valid`."""
        if self._data is None:
            raise RuntimeError("the form has errors; ask `form.valid` before reading `form.data`")
        return self._data

    def add_error(self, name: str, message: str) -> None:
        """The first message for a field wins; an unknown field's goes to the top of the form."""
        self.errors.setdefault(name if name in self.model.model_fields else WHOLE, message)

    def refuse(self, error: ServiceError) -> None:
        """Show what an action found wrong: by its fields, else above the form."""
        for name, message in error.fields.items():
            self.add_error(name, message)
        if not error.fields:
            # The general advice ("send it again") goes without saying beside a form.
            own = error.mend if error.mend != error.default_mend else ""
            self.add_error(WHOLE, f"{error.detail} {own}".strip())

    @property
    def summary(self) -> list[tuple[str, str]]:
        """(id of the field or "", sentence) for the box above the form."""
        return [
            ("" if name == WHOLE else self.id(name), message if name == WHOLE else f"{self.label(name)}: {message}")
            for name, message in self.errors.items()
        ]

    # What the macros ask; a name that the model lacks is a mistake in the template and raises KeyError.

    def id(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def label(self, name: str) -> str:
        return self._field(name).title or name.replace("_", " ").capitalize()

    def hint(self, name: str) -> str:
        return self._field(name).description or ""

    def error(self, name: str) -> str:
        self._field(name)
        return self.errors.get(name, "")

    def value(self, name: str) -> str:
        return "" if self.is_secret(name) else next(iter(self._typed.get(name, [])), "")

    def is_secret(self, name: str) -> bool:
        return _mentions(self._field(name).annotation, SecretStr)

    def is_required(self, name: str) -> bool:
        return self._field(name).is_required() and self._field(name).annotation is not bool

    def max_length(self, name: str) -> int | None:
        return next((item.max_length for item in self._field(name).metadata if hasattr(item, "max_length")), None)

    def _field(self, name: str) -> FieldInfo:
        return self.model.model_fields[name]

    def _take(self, pairs: list[tuple[str, str]]) -> None:
        raw: dict[str, object] = {}
        spread = cards.spread([(name, value[:MOST_LOOKED_AT]) for name, value in pairs])
        for name, value in pairs:
            if name not in self.model.model_fields:
                self.add_error(WHOLE, "The form has fields that do not belong here. Reload the page and try again.")
                continue
            if not is_storable(value):
                self.add_error(name, "Remove the invisible characters; typing it anew helps.")
                value = "".join(character for character in value if is_storable(character))
            if name in spread or cards.contains_card(value[:MOST_LOOKED_AT]):
                self.add_error(name, cards.SENTENCE)
                value = ""
            # Passwords count exactly as typed; browsers send line breaks as CRLF.
            self._typed.setdefault(name, []).append(
                value if self.is_secret(name) else value.replace("\r\n", "\n").strip()
            )
        for name, field in self.model.model_fields.items():
            typed = self._typed.get(name, [])
            if len(typed) > 1:
                self.add_error(name, "This was sent twice. Reload the page and try again.")
            elif field.annotation is bool:
                # Browsers send nothing for an unticked box.
                raw[name] = typed[0] if typed else False
            elif typed and typed[0]:
                raw[name] = typed[0]
        try:
            data = self.model.model_validate(raw)
        except ValidationError as error:
            for item in error.errors(include_url=False, include_input=False):
                name = str(item["loc"][0]) if item["loc"] else WHOLE
                self.add_error(name, message_for(item))
        else:
            self._data = data


def is_storable(text: str) -> bool:
    """No NUL and other controls, no lone surrogates, no U+FFFD (what a broken encoding leaves behind)."""
    if text.isascii() and text.isprintable():
        return True
    return not any(
        (kind := unicodedata.category(character)) == "Cs"
        or (kind == "Cc" and character not in "\t\r\n")
        or character == "\ufffd"
        for character in text
    )


async def _read(request: Request) -> list[tuple[str, str]]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != CONTENT_TYPE:
        raise UnsupportedMedia("This address takes a form.", mend="Send the form from its page in a browser.")
    declared = request.headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and int(declared[:12]) > MOST_BYTES:
        raise PayloadTooLarge("The form is too large.", mend="Shorten the longest texts and send it again.")
    try:
        received = await request.form(max_files=0, max_fields=MOST_FIELDS, max_part_size=MOST_BYTES)
    except (MultiPartException, HTTPException) as error:
        raise PayloadTooLarge(
            "The form has too many or too large fields.", mend="Shorten the longest texts and send it again."
        ) from error
    except (FormParserError, ValueError) as error:
        raise BadRequest("The form could not be read.", mend="Reload the page and send it again.") from error
    return [(name, value) for name, value in received.multi_items() if isinstance(value, str)]


def _as_typed(value: object) -> list[str]:
    if value is None or value is False:
        return []
    return ["on" if value is True else str(value)]


def _mentions(annotation: Any, wanted: type) -> bool:
    return annotation is wanted or any(_mentions(part, wanted) for part in get_args(annotation))
