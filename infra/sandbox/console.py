"""What `make run` prints: one line per step with its time, a box of addresses, one sentence when something is wrong."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Step:
    """A step in progress; `detail` is shown beside its name when it is done."""

    detail = ""


class Console:
    """Writes for people; redraws a line only on a terminal, so that a log file stays readable."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._redraws = sys.stdout.isatty()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def say(self, text: str = "") -> None:
        print(text, flush=True)

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Announce a step, run it, and show how long it took."""
        step, began = Step(), time.monotonic()
        if self._redraws:
            print(f"  ..       {name}", end="", flush=True)
        try:
            yield step
        except BaseException:
            if self._redraws:
                print("\r", end="")
            self.say(f"  --       {name}")
            raise
        start = "\r" if self._redraws else ""
        self.say(f"{start}  ok {time.monotonic() - began:4.1f} s  {name:<22} {step.detail}".rstrip())

    def box(self, title: str, sections: Sequence[Sequence[tuple[str, ...]]]) -> None:
        """A framed table: rows of cells, aligned within their section; all first cells align."""
        label = max(len(row[0]) for rows in sections for row in rows)
        bodies = [_aligned(rows, label) for rows in sections]
        width = max(len(title), *(len(line) for body in bodies for line in body))
        rule = f"+{'-' * (width + 2)}+"
        self.say(rule)
        self.say(f"| {title:<{width}} |")
        for body in bodies:
            self.say(rule)
            for line in body:
                self.say(f"| {line:<{width}} |")
        self.say(rule)


def _aligned(rows: Sequence[tuple[str, ...]], label: int) -> list[str]:
    widths = [label, *(max(map(len, column)) for column in list(zip(*rows, strict=True))[1:])]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
