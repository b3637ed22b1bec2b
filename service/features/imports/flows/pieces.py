"""A file as it comes, cut into pieces of whole lines: memory for one piece, however long the file or a line is."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass

PIECE = 128 * 1024
"""Bytes; some 5,000 readings, which PostgreSQL stores in a fraction of its statement timeout."""
LONGEST_LINE = 4 * 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole lines without their newline, and the byte after the last of them.

    A line longer than PIECE comes alone and cut off, still longer than LONGEST_LINE.
    """

    lines: list[bytes]
    end: int


async def pieces(source: AsyncIterable[bytes], start: int) -> AsyncIterator[Piece]:
    """Cut what comes from `source`, whose first byte is byte `start` of the file and begins a line."""
    held, end, long = bytearray(), start, b""
    async for part in source:
        held += part
        while True:
            if long:
                newline = held.find(b"\n") + 1
                dropped = newline or len(held)
                del held[:dropped]
                end += dropped
                if not newline:
                    break
                yield Piece([long], end)
                long = b""
            if len(held) < PIECE:
                break
            if cut := held.rfind(b"\n", 0, PIECE) + 1:
                lines = bytes(held[: cut - 1]).split(b"\n")
                del held[:cut]
                end += cut
                yield Piece(lines, end)
            else:
                long = bytes(held[: LONGEST_LINE + 1])
    if long:
        yield Piece([long], end)
    elif held:
        yield Piece(bytes(held).removesuffix(b"\n").split(b"\n"), end + len(held))
