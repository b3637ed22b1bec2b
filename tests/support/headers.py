"""The headers of every answer and what has to stand in them: a right name with a wrong value protects nobody."""

from __future__ import annotations

import re

import httpx

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; form-action 'self'{more}; frame-ancestors 'none'; base-uri 'none'; "
    "require-trusted-types-for 'script'; trusted-types htmx"
)
_POLICY = re.escape(POLICY).replace(re.escape("{more}"), r"( https?://[\w.:-]+)*")
PROMISED = {
    "content-security-policy": re.compile(rf"{_POLICY}|sandbox; default-src 'none'"),
    "x-content-type-options": re.compile("nosniff"),
    "referrer-policy": re.compile("same-origin|no-referrer"),
    "cross-origin-opener-policy": re.compile("same-origin"),
    "cross-origin-resource-policy": re.compile("same-origin"),
    "permissions-policy": re.compile(r"camera=\(\), geolocation=\(\), microphone=\(\), payment=\(\), usb=\(\)"),
    "x-frame-options": re.compile("DENY"),
    "cache-control": re.compile("(private, )?no-store"),
}
FOR_ALL = {"/openapi.json": "public, max-age=300", "/favicon.ico": "public, max-age=86400"}
"""Nobody's in particular: these may be kept. What lies under /static/ is named by its content, and kept for ever."""
FOR_EVER = "public, max-age=31536000, immutable"


def broken_promises(answer: httpx.Response) -> list[str]:
    """The headers that an answer lacks, and those whose value is not the one that protects."""
    found, path = [], answer.request.url.path
    kept = FOR_EVER if path.startswith("/static/") else FOR_ALL.get(path)
    for name, value in PROMISED.items():
        said = answer.headers.get(name)
        if said is None:
            found.append(name)
        elif not value.fullmatch(said) and not (name == "cache-control" and said == kept):
            found.append(f"{name} (it is {said!r})")
    return found
