"""`make run`: the whole product on one machine, from nothing to addresses in a terminal, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from types import FrameType

from infra.sandbox.configuration import Home, home
from infra.sandbox.console import Console
from infra.sandbox.errors import SandboxError
from infra.sandbox.locks import DirectoryLock
from infra.sandbox.product import Product

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop(BaseException):
    """Somebody asked us to end."""


def main() -> int:
    """Exit code 0 after being asked to stop, 1 when something went wrong."""
    console = Console()
    lock = DirectoryLock(home().path)
    try:
        _listen_for_endings()
        _take(lock)
        with lock, ExitStack() as started:
            product = Product(home(), console, started)
            try:
                product.start()
                lock.write(f"pid {os.getpid()}, {product.environment['BASE_URL']}")
                _welcome(console, home(), product)
                product.watch()
            except Stop:
                console.say("\nStopping ...")
                raise
    except Stop:
        console.say("Stopped. The data stays in .ballast; `make reset` wipes it.")
        return 0
    except SandboxError as problem:
        console.say(f"\n{problem}")
        return 1
    return 0


def _listen_for_endings() -> None:
    def end(number: int, frame: FrameType | None) -> None:
        # Only the first counts: a second Ctrl-C in the middle of stopping would leave half of it running. And not a
        # word here: a handler that prints while a print is interrupted fails.
        for one in ENDINGS:
            signal.signal(one, signal.SIG_IGN)
        raise Stop

    for one in ENDINGS:
        signal.signal(one, end)


def _take(lock: DirectoryLock) -> None:
    if not lock.acquire(f"pid {os.getpid()}"):
        raise SandboxError(
            f"Ballast already runs in this clone ({lock.note()}). Use that one, or stop it with Ctrl-C in its terminal."
        )


def _welcome(console: Console, place: Home, product: Product) -> None:
    environment, ports = product.environment, product.ports
    app = environment["BASE_URL"]
    addresses = [("app", app), ("API", f"{app}/docs")]
    if "inbox" in ports:
        addresses += [
            ("inbox", f"http://127.0.0.1:{ports['inbox']}"),
            ("identity", f"http://127.0.0.1:{ports['oidc']}"),
        ]
    addresses += [
        ("metrics", f"curl -H 'Authorization: Bearer {environment['METRICS_TOKEN']}' {app}/metrics"),
        ("logs", str(place.logs)),
    ]
    width = max(len(one["email"]) for one in product.logins)
    logins = [(one["role"], f"{one['email']:<{width}}  {one['password']}") for one in product.logins]
    logins += [
        ("", f"authenticator key of {one['email']}: {one['authenticator_key']}")
        for one in product.logins
        if "authenticator_key" in one
    ]
    console.say()
    console.box(f"Ballast is ready after {console.elapsed:.1f} s. Ctrl-C stops it.", [addresses, logins])


if __name__ == "__main__":
    sys.exit(main())
