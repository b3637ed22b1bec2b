"""Which objects of the store somebody still needs: whoever stores some says how to ask, and a sweeper asks.

Protects from: bytes that no row knows any more, kept for ever because their organization ended, or because a process
died between the store and the database (GDPR Art. 17). How to use: `keep("t", KEY, "SELECT ...")` in models.py; with
`of_person`, which of them are one person's own and go when the person is erased.
Limits: younger objects than a day are left alone, for their row may be about to be written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """`known` selects, of the keys in $1, those that a row names; as the maintenance role, which sees all of them."""

    prefix: str
    ours: re.Pattern[str]
    known: str
    of_person: str = ""
    """Selects the keys of what belongs to the person in $1 alone."""
    stop_person: str = ""
    """Ends what is still being made of it: no key comes after that."""


PLACES: dict[str, Place] = {}


def keep(prefix: str, ours: str, known: str, *, of_person: str = "", stop_person: str = "") -> None:
    """Keys below `prefix` that match `ours` are swept unless `known` names them; any other key is left alone."""
    PLACES[prefix] = Place(prefix, re.compile(f"{prefix}/{ours}"), known, of_person, stop_person)
