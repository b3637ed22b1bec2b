"""What a process does once, after everything is loaded and before the first request."""

from __future__ import annotations

import ctypes
import gc

GENERATION_0 = 50_000
M_ARENA_MAX = -8
"""malloc.h of glibc."""


def freeze_startup_objects() -> None:
    """Move what start-up made out of the garbage collector's sight and collect less often.

    Every full collection walked hundreds of thousands of objects that never die; p99 fell to a third without it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GENERATION_0, 20, 20)


def share_one_heap() -> None:
    """Let all threads allocate from one heap; call it before the first of them starts.

    glibc gives each thread a heap of its own and keeps what was freed there: every thread that ever checked a password
    held on to its 19 MiB. Other C libraries have no such setting, and nothing happens.
    """
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(M_ARENA_MAX, 1)
