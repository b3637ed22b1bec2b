"""What the page about the system says: rows of facts, some from features, each with a plain state and its runbook.

SYSTEM_FACTS = [queries.facts]        # in a feature's admin.py; a @query that answers with a list of Fact
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["good", "look", "bad", ""]


@dataclass(frozen=True, slots=True)
class Fact:
    """`state` is empty where there is nothing to judge; `runbook` names a page of ops/runbooks."""

    name: str
    value: str
    state: State = ""
    runbook: str = ""


def by_age(seconds: float | None, look: float, bad: float) -> State:
    """How a waiting time is judged; nothing waits: good."""
    return "good" if seconds is None or seconds < look else "look" if seconds < bad else "bad"
