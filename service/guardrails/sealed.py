"""Columns that only the service can read: encrypted in the database, each value for its own row and column.

Protects from: a stolen dump, a backup or a curious query that opens customers' doors; a ciphertext copied to another
row, column or table (an attacker's own second factor in the victim's row), which fails loudly instead of opening.
How to use: declare `info=sealed(secret())` on a bytes column with `key_index("table", "column")` among the table's
arguments, then

    self.key = seal(Source.key, plain, self.id)             # bytes for the column
    unseal(Source.key, self.key, self.id)                   # raises BadSignature

The values after the column name the row: its primary key, or what `by=` names. What is only ever compared is not
sealed: it is `hashed(secret())`. `guardrails.resealing` brings every sealed value under the newest key, and seals what
was there before its column was (`once_plain=True`: such values are handed out as they are until then), or was bound to
another column of its row (`once_in="column"`: opens there, too).

Limits: AES-256-GCM with random nonces is good for 2^32 values per key: rotate before that. Whoever holds both the
database and ENCRYPTION_KEYS reads everything. A sealed column cannot be searched, sorted or unique (a test says so);
the length of a value, and which key it is under, can be seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Index, MetaData, column, func

from service.core.crypto import LARGEST_KEY, BadSignature, Keyring, keyring

KEY_BYTES = 2
"""What a sealed value begins with: the id of its key, big-endian."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """How the rows of a sealed column are named; empty: by their primary key."""

    by: tuple[str, ...] = ()
    once_plain: bool = False
    once_in: str = ""


def sealed(
    privacy: dict[str, Any], *, by: tuple[str, ...] = (), once_plain: bool = False, once_in: str = ""
) -> dict[str, Any]:
    """The column's info, with what it holds. `by` where the primary key is not known before the row is written;
    `once_plain` for a column of text that was kept in clear before; `once_in` for one whose values were moved from
    another column of the row as they were."""
    return {**privacy, "sealed": Sealed(by, once_plain, once_in)}


def hashed(privacy: dict[str, Any]) -> dict[str, Any]:
    """The column holds a keyed hash, or a password's: there is nothing to read back."""
    return {**privacy, "hashed": True}


def key_index(table: str, name: str) -> Index:
    """Finds the values under an old key without reading all others; every sealed column has one."""
    value: Any = column(name)
    return Index(f"ix_{table}_{name}_key", func.substr(value, 1, KEY_BYTES), postgresql_where=value.is_not(None))


def seal(attribute: Any, plain: bytes | str, *row: object, ring: Keyring | None = None) -> bytes:
    """What the column keeps of `plain` in this row."""
    return (ring or keyring()).encrypt(plain.encode() if isinstance(plain, str) else plain, place(attribute, *row))


def unseal(attribute: Any, value: bytes, *row: object, ring: Keyring | None = None) -> bytes:
    """What was sealed; raises BadSignature when altered, copied from elsewhere, or under a key that is not listed."""
    where, found, ring = place(attribute, *row), column_of(attribute), ring or keyring()
    declared: Sealed = found.info["sealed"]
    if declared.once_plain and not is_sealed(value):
        return value
    try:
        return ring.decrypt(value, where)
    except BadSignature:
        if not declared.once_in:
            raise
        return ring.decrypt(value, place(found.table.columns[declared.once_in], *row))


def is_sealed(value: bytes) -> bool:
    """Text never begins like the id of a key: those are small."""
    return value[:KEY_BYTES] <= LARGEST_KEY.to_bytes(KEY_BYTES, "big")


def place(attribute: Any, *row: object) -> str:
    """What a value is bound to: table:column:row. Raises TypeError for a column that is not declared sealed."""
    found = column_of(attribute)
    if len(row) != len(row_names(found)):
        raise TypeError(f"{found} names its rows by {', '.join(row_names(found))}")
    # A colon inside a part would let two rows share one name.
    parts = (str(part).replace("%", "%25").replace(":", "%3A") for part in row)
    return ":".join((found.table.name, found.name, *parts))


def column_of(attribute: Any) -> Column[Any]:
    found: Column[Any] = attribute if isinstance(attribute, Column) else attribute.property.columns[0]
    return found


def row_names(found: Column[Any]) -> tuple[str, ...]:
    """The columns that name a row of this sealed column; raises TypeError when it is none."""
    declared: Sealed | None = found.info.get("sealed")
    if declared is None:
        raise TypeError(f"{found} is not sealed: declare info=sealed(...)")
    return declared.by or tuple(key.name for key in found.table.primary_key.columns)


def sealed_columns(metadata: MetaData) -> list[Column[Any]]:
    """All of them, in order of table and column."""
    return [found for table in metadata.sorted_tables for found in table.columns if "sealed" in found.info]
