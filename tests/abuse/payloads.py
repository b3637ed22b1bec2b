"""What is sent: the same hostile values into every field of every operation and form, whatever it is called."""

from __future__ import annotations

from typing import Any

MARK = "zq7x"
"""Stands in every hostile text, so that its way through an answer can be followed."""
PRODUCT, FACTORS = "62615533", "7919*7907"
"""What a template engine would have made of it."""

TEXTS = {
    "SQL": f"{MARK}' OR '1'='1'; DROP TABLE users; --",
    "template": f"{MARK}{{{{{FACTORS}}}}}${{{FACTORS}}}<%= {FACTORS} %>#{{{FACTORS}}}",
    "HTML": f"<script>{MARK}</script><img src=x onerror={MARK}>",
    "attribute": f"\"'><svg/onload={MARK}>",
    "formula": f"=cmd|'/c {MARK}'!A1",
    "header": f"{MARK}\r\nX-Injected: {MARK}\r\nSet-Cookie: {MARK}=1",
    "bidi": f"{MARK}\u202egnp.exe\u2066",
    "path": f"../../../../etc/passwd{MARK}",
    "address": f"javascript:alert('{MARK}')//",
    "format": f"{MARK}%s%n{{0.__class__}}",
}
"""Fine as somebody's text, perhaps: taken or refused, but never obeyed."""
BROKEN = {"NUL": f"{MARK}\x00", "lone surrogate": f"{MARK}\ud800", "escape": f"{MARK}\x1b[2J"}
"""Never fine: no text has these."""
NUMBERS: dict[str, Any] = {
    "NaN": "NaN", "infinity": "1e999", "400 digits": "9" * 400, "below nothing": "-99999999999999999999",
    "words": MARK, "hexadecimal": "0x7fffffffffffffff",
}  # fmt: skip
"""In the place of a number."""
WRONG_TYPES: dict[str, Any] = {"an object": {MARK: []}, "a list of lists": [[MARK]], "yes": True}
RAW_MARKUP = (f"<script>{MARK}", f"onerror={MARK}>", f"<svg/onload={MARK}")
"""What of it a page may never hold as it is."""
FOREIGN = "https://attacker.example"
FAR_TOO_LONG = "x" * 300_000
DEEP = "[" * 50_000 + "]" * 50_000
