"""`make reset`: wipe what `make run` keeps, unless it is running."""

from __future__ import annotations

import os
import shutil

from infra.sandbox.configuration import home
from infra.sandbox.locks import DirectoryLock


def main() -> None:
    place = home().path
    if not place.exists():
        print("Nothing to wipe.")
        return
    with DirectoryLock(place) as lock:
        if not lock.acquire(f"pid {os.getpid()}, make reset"):
            raise SystemExit(
                f"Ballast is running ({lock.note()}): stop it with Ctrl-C in its terminal, then try again."
            )
        for path in place.iterdir():
            # The lock file stays: whoever opened it a moment ago must still find us holding it.
            if path != lock.path:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(f"Wiped {place}.")


if __name__ == "__main__":
    main()
