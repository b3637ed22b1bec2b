"""pydantic's findings in plain sentences: what to do, never what was typed."""

from __future__ import annotations

from typing import Final

from pydantic_core import ErrorDetails

SENTENCES: Final = {
    "missing": "Fill in this field.",
    "string_too_short": "Use at least {min_length} characters.",
    "string_too_long": "Use at most {max_length} characters.",
    "too_short": "Use at least {min_length} characters.",
    "too_long": "Use at most {max_length} characters.",
    "greater_than": "Enter a number above {gt}.",
    "greater_than_equal": "Enter {ge} or more.",
    "less_than": "Enter a number below {lt}.",
    "less_than_equal": "Enter {le} or less.",
    "multiple_of": "Enter a multiple of {multiple_of}.",
    "decimal_max_places": "Use at most {decimal_places} decimal places.",
    "decimal_max_digits": "Use at most {max_digits} digits.",
    "finite_number": "Enter a number, for example 12.5.",
    "string_pattern_mismatch": "Use the form described beside the field.",
    "literal_error": "Choose one of the listed values.",
    "enum": "Choose one of the listed values.",
}
"""By exact type; the names in braces are pydantic's context."""

FAMILIES: Final = (
    ("int", "Enter a whole number, for example 42."),
    ("float", "Enter a number, for example 12.5."),
    ("decimal", "Enter a number, for example 12.5."),
    ("bool", "Tick or untick the box."),
    ("datetime", "Enter a date and time like 2026-03-31T14:30."),
    ("timezone", "Enter a date and time with its offset, like 2026-03-31T14:30:00Z."),
    ("date", "Enter a date like 2026-03-31."),
    ("time", "Enter a time like 14:30."),
    ("uuid", "Choose one of the listed values."),
    ("url", "Enter an address that starts with https://."),
)
"""By the beginning of the type."""

OTHERWISE: Final = "This value is not right; check it and try again."


def message_for(error: ErrorDetails) -> str:
    """One sentence for one finding. A validator's own ValueError text is shown as it is, so it must not echo input."""
    context = error.get("ctx", {})
    if error["type"] == "value_error":
        if "reason" in context:
            return "Enter an e-mail address like name@example.com."
        return _sentence(str(context.get("error") or OTHERWISE))
    if error["type"] == "too_short" and context.get("field_type") != "Value":
        return f"Choose at least {context['min_length']}."
    if error["type"] == "too_long" and context.get("field_type") != "Value":
        return f"Send at most {context['max_length']} at once."
    if sentence := SENTENCES.get(error["type"]):
        return sentence.format_map(context)
    return next((text for start, text in FAMILIES if error["type"].startswith(start)), OTHERWISE)


def _sentence(text: str) -> str:
    """Validators say "must be on one line"; beside a field that reads "Must be on one line."."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
