"""`python -m tests.gaps.lost_update` finds and tells every counterexample; `--write` puts them into the chapter."""

from __future__ import annotations

import sys

from tests.gaps.lost_update import chapter
from tests.gaps.lost_update.ours import Strategy
from tests.gaps.lost_update.story import OURS, RIGHT, RUNS, book, counterexample


def main() -> int:
    stories = book()
    print(stories)
    if "--write" in sys.argv:
        chapter.show(stories)
    failed = False
    print("### Four that hold\n")
    for name, strategy in [*((handle.__name__, Strategy(handle)) for handle in RIGHT), (OURS.__name__, OURS())]:
        world = counterexample(strategy, runs=RUNS)
        print(f"- {name}: {f'no counterexample in {RUNS:,} runs' if world is None else world.broken}")
        failed |= world is not None
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
