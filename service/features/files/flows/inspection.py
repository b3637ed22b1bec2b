"""Has a stranger's file looked at by a process that may use little and reach nothing."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

DECODER = Path(__file__).with_name("decoder.py")
DEADLINE = 15.0
AT_ONCE = 2
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


class InspectionFailed(Exception):
    """Nobody looked at the file: it stays where it is, and another try may do."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`refused` is a word of schemas.SENTENCES, or ""; `rewritten` says that the output file is what may be served."""

    refused: str = ""
    rewritten: bool = False
    active: bool = False


async def inspect(source: Path, extension: str, target: Path, *, deadline: float = DEADLINE) -> Verdict:
    """Decode `source` as what its extension says; raises InspectionFailed when the decoder itself could not run."""
    async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-B", str(DECODER), extension, str(source), str(target),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            # Neither our secrets nor a proxy: what is not there cannot be stolen.
            env={"PATH": os.defpath, "LANG": "C.UTF-8"}, close_fds=True,
        )  # fmt: skip
        try:
            async with asyncio.timeout(deadline):
                said, _ = await child.communicate()
        except TimeoutError:
            return Verdict("limits")
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
    if child.returncode and child.returncode < 0:
        return Verdict("limits")  # the kernel ended it: too much time, or too large an output
    try:
        found = json.loads(said)
    except ValueError as error:
        raise InspectionFailed(f"the decoder said nothing ({child.returncode})") from error
    return Verdict(found.get("refused", ""), found.get("rewritten", False), found.get("active", False))
