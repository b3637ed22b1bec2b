"""A ZIP that is handed on while it is made: its size is nobody's memory's business."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import IO, cast

from service.core import clock

HAND_ON = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the archive; `packed` is not for what is packed already."""

    name: str
    chunks: AsyncIterable[bytes]
    packed: bool = True


class _Pipe:
    """What zipfile writes to: it cannot seek, so sizes stand behind each file (and every reader understands that)."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts, self.size = [], 0
        return taken


async def zipped(entries: AsyncIterable[Entry]) -> AsyncIterator[bytes]:
    pipe = _Pipe()
    made = zipfile.ZipFile(cast("IO[bytes]", pipe), "w")
    now = clock.now()
    async for entry in entries:
        info = zipfile.ZipInfo(entry.name, now.timetuple()[:6])
        info.compress_type = zipfile.ZIP_DEFLATED if entry.packed else zipfile.ZIP_STORED
        info.external_attr = 0o600 << 16
        with made.open(info, "w", force_zip64=True) as out:
            async for chunk in entry.chunks:
                # Packing is work for the processor: other jobs of this worker go on meanwhile.
                await asyncio.to_thread(out.write, chunk)
                if pipe.size >= HAND_ON:
                    yield pipe.take()
    made.close()
    yield pipe.take()


async def whole(text: str | bytes) -> AsyncIterator[bytes]:
    yield text.encode() if isinstance(text, str) else text
