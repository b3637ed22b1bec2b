"""PostgreSQL refuses to run as root, containers often are root: run it as somebody else without creating a user."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path

from infra.sandbox.errors import SandboxError

NOBODY = 65_534
IN_NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")
# Keeps the right to read our files (CAP_DAC_OVERRIDE), so that a clone under /root works too.
AS_NOBODY = (
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    *("--inh-caps=+dac_override", "--ambient-caps=+dac_override"),
)


def prefix(death_signal: int = signal.SIGINT) -> tuple[str, ...]:
    """What to put before a command so that it does not see itself as root; nothing when we are not root.

    A user namespace is best (files stay ours); where the container forbids it, the user nobody.
    """
    way = _way()
    if way is AS_NOBODY:
        # Changing the user clears the death signal that bound.py asked for: ask again.
        return (*way, "--pdeathsig", signal.Signals(death_signal).name.removeprefix("SIG"), "--")
    return way


def give(directory: Path) -> None:
    """Make the server's user the owner of its directory; PostgreSQL checks."""
    owner = NOBODY if _way() is AS_NOBODY else os.geteuid()
    if directory.stat().st_uid == owner:
        return
    for path in (directory, *directory.rglob("*")):
        os.chown(path, owner, -1, follow_symlinks=False)


@cache
def _way() -> tuple[str, ...]:
    if os.geteuid() != 0:
        return ()
    for way, probe in ((IN_NAMESPACE, IN_NAMESPACE), (AS_NOBODY, (*AS_NOBODY, "--"))):
        if shutil.which(way[0]) and subprocess.run([*probe, "true"], capture_output=True, check=False).returncode == 0:
            return way
    raise SandboxError(
        "PostgreSQL does not run as root, and neither `unshare --user` nor `setpriv` works here; "
        "run this as an ordinary user, or set DATABASE_URL to a PostgreSQL of your own"
    )
