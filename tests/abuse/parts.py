"""Forms with files in them (multipart/form-data), right and spoilt, made byte by byte: no client would send most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from service.web.contract import example
from tests.abuse.payloads import FAR_TOO_LONG, MARK

FORM = "multipart/form-data"
BOUNDARY = "3c9d2a7e5b"
SENT_AS = f"{FORM}; boundary={BOUNDARY}"
NAME, CONTENT = f"{MARK}.txt", b"a few words"
"""Text is what nearly every address for files takes; one that does not needs a right file of its own here."""


@dataclass(frozen=True)
class Part:
    """A field of the form; a file, if it has a name of its own."""

    name: str
    content: bytes
    file: str | None = None
    head: str = ""
    """More lines of its head, or a wrong one in place of all."""

    def encoded(self) -> bytes:
        named = "" if self.file is None else f'; filename="{self.file}"\r\nContent-Type: text/plain'
        head = self.head or f'Content-Disposition: form-data; name="{self.name}"{named}'
        return f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode("utf-8", "surrogatepass") + self.content + b"\r\n"


def encoded(parts: list[Part]) -> bytes:
    return b"".join(part.encoded() for part in parts) + f"--{BOUNDARY}--\r\n".encode()


def is_file(schema: dict[str, Any]) -> bool:
    return schema.get("format") == "binary" or "contentMediaType" in schema


def right_parts(schema: dict[str, Any], schemas: dict[str, Any]) -> list[Part]:
    """What the description asks for: its fields and, after them, its files."""
    found = []
    for name, inner in schema["properties"].items():
        one = inner["items"] if inner.get("type") == "array" else inner
        value = str(example(one, schemas)).encode()
        found.append(Part(name, CONTENT, NAME) if is_file(one) else Part(name, value))
    return sorted(found, key=lambda part: part.file is not None)


def spoilt_forms(parts: list[Part], schema: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The right form as often as something can be wrong with it."""
    for at, part in enumerate(parts):
        before, after = parts[:at], parts[at + 1 :]
        several = schema["properties"][part.name].get("type") == "array"
        if part.name in schema.get("required", ()):
            yield f" without {part.name}", encoded(before + after)
            yield f" with {part.name} under another name", encoded([*before, replace(part, name=MARK), *after])
        if not several:
            yield f" with {part.name} twice", encoded([*before, part, part, *after])
        if part.file is not None:
            yield f" with {part.name} as a field", encoded([*before, replace(part, file=None), *after])
            yield f" with nothing in {part.name}", encoded([*before, replace(part, content=b""), *after])
            yield f" with {part.name} without a name", encoded([*before, replace(part, file=""), *after])
            for what, head in {
                "no head": "X: y",
                "an endless head": f"X: {FAR_TOO_LONG}",
                "a broken head": MARK,
            }.items():
                yield f" with {what} of {part.name}", encoded([*before, replace(part, head=head), *after])
    if schema.get("additionalProperties") is False:
        for name in ("organization_id", "__proto__"):
            more = Part(name, b"01963f6e-9d3c-7c1b-8f0e-2a4b6c8d0e1f")
            yield f" with {name} before", encoded([more, *parts])
            yield f" with {name} behind", encoded([*parts, more])
    yield " with a file more", encoded([*parts, Part(MARK, CONTENT, NAME)])
    right = encoded(parts)
    yield " of nothing", b""
    yield " that breaks off", right[: -len(BOUNDARY) - 8]
    yield " with another boundary", right.replace(BOUNDARY.encode(), b"another")
    yield " that is JSON", b'{"file": "text"}'
