"""A measurement in a process of its own: no thread of another test's server or worker takes part in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

from tests.support.forked import context

P = ParamSpec("P")
R = TypeVar("R")


def _measure(body: Callable[..., Coroutine[Any, Any, R]], arguments: tuple[Any, ...], found: Connection) -> None:
    found.send(asyncio.run(body(*arguments)))


async def apart(body: Callable[P, Coroutine[Any, Any, R]], *arguments: P.args, **_: P.kwargs) -> R:
    """What `body`, a function of a module, answers there. Raises EOFError where it failed: it has said why."""
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(body, arguments, sender), daemon=True)
    process.start()
    sender.close()
    try:
        found: R = await asyncio.to_thread(receiver.recv)
    finally:
        receiver.close()
        await asyncio.to_thread(process.join)
    return found
