"""One owner at a time for a directory; the kernel frees the lock when its holder dies, so it is never stale."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self


class DirectoryLock:
    """An advisory lock on `directory/lock`, holding a note that says who has it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "lock"
        self._file: int | None = None

    def acquire(self, note: str) -> bool:
        """Take the lock and leave a note; False when somebody else holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Never unlinked: removing a lock file lets two holders lock two different files of the same name.
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._file = file
        self.write(note)
        return True

    def write(self, note: str) -> None:
        """Replace the note; only the holder may."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, note.encode(), 0)

    def note(self) -> str:
        """What the present or last holder wrote."""
        try:
            return self.path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def release(self) -> None:
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()
