"""What must appear in no log line, audit row, span or mail, whoever writes it: guard rails add what they recognise."""

from __future__ import annotations

from collections.abc import Callable

maskers: list[Callable[[str], str]] = []
"""Each takes a text and answers it without what it looks for; cheap on texts that have none."""


def masked(text: str) -> str:
    for mask in maskers:
        text = mask(text)
    return text
