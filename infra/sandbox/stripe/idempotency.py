"""Idempotency keys as version 1 of the API has them: the first answer is kept, 500s too.

The same key and parameters replay it, other parameters are an error, and a key in flight is a conflict.
docs.stripe.com/api/idempotent_requests
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

from infra.sandbox.stripe.clock import DAY
from infra.sandbox.stripe.store import Account, StripeError

KEPT_SECONDS = DAY


@dataclass(frozen=True)
class Answer:
    """What goes out; `cut_off` means that the connection ends without one."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    cut_off: bool = False

    @classmethod
    def of(cls, status: int, body: Any) -> Answer:
        return cls(status, json.dumps(body).encode())


@dataclass
class Kept:
    """One key: what was asked and, when it is known, what was answered."""

    fingerprint: str
    until: float
    answer: Answer | None = None


def begin(account: Account, key: str, fingerprint: str) -> Answer | None:
    """The earlier answer, or None when the work is to be done. Raises StripeError with 400 or 409."""
    if not key:
        return None
    # A day of the machine's, whatever a test clock says: keys belong to the API, not to what it is about.
    now = time.monotonic()
    with account.lock:
        for old in list(takewhile(lambda one: account.kept_answers[one].until < now, account.kept_answers)):
            del account.kept_answers[old]
        kept = account.kept_answers.get(key)
        if kept is None:
            account.kept_answers[key] = Kept(fingerprint, now + KEPT_SECONDS)
            return None
        if kept.fingerprint != fingerprint:
            text = f"Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '{key}'."  # noqa: E501
            raise StripeError(text, kind="idempotency_error")
        if kept.answer is None:
            text = "There is currently another in-progress request using this Idempotency Key."
            raise StripeError(text, status=409, kind="idempotency_error", code="idempotency_key_in_use")
        return replace(kept.answer, headers=kept.answer.headers | {"Idempotent-Replayed": "true"})


def end(account: Account, key: str, answer: Answer | None) -> None:
    """Keep the answer; without one nothing was begun, and the key is free again."""
    if not key:
        return
    with account.lock:
        if answer is None:
            account.kept_answers.pop(key, None)
        else:
            account.kept_answers[key].answer = answer
