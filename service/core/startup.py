"""What a process does once, after everything is loaded and before the first request."""

from __future__ import annotations

import gc

GENERATION_0 = 50_000


def freeze_startup_objects() -> None:
    """Move what start-up made out of the garbage collector's sight and collect less often.

    Every full collection walked hundreds of thousands of objects that never die; p99 fell to a third without it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GENERATION_0, 20, 20)
