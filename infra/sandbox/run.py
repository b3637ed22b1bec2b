"""`make run`: the whole product on one machine, from nothing to addresses in a terminal, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from infra.sandbox.configuration import ROOT, Home, home
from infra.sandbox.console import Console
from infra.sandbox.errors import SandboxError
from infra.sandbox.locks import DirectoryLock
from infra.sandbox.ports import HOST
from infra.sandbox.product import Product
from infra.sandbox.proxies import forget_proxies

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop(BaseException):
    """Somebody asked us to end."""


def main() -> int:
    """Exit code 0 after being asked to stop, 1 when something went wrong."""
    console = Console()
    forget_proxies()
    lock = DirectoryLock(home().path)
    try:
        _listen_for_endings()
        was_cut_off = _take(lock)
        with lock, ExitStack() as started:
            product = Product(home(), console, started, was_cut_off=was_cut_off)
            try:
                console.say(f"Starting Ballast; its data is in {_short(home().path)}.")
                console.say("The last run was cut off: clearing up after it.\n" if was_cut_off else "")
                product.start()
                lock.write(f"pid {os.getpid()}, {product.environment['BASE_URL']}")
                _welcome(console, home(), product)
                product.watch()
            except Stop:
                console.say("\nStopping ...")
                raise
    except Stop:
        console.say(f"Stopped. The data stays in {_short(home().path)}; `make reset` wipes it.")
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


def _take(lock: DirectoryLock) -> bool:
    """Answers whether the last holder was cut off: whoever ends properly wipes their note."""
    was_cut_off = bool(lock.note())
    if not lock.acquire(f"pid {os.getpid()}"):
        raise SandboxError(
            f"Ballast already runs in this clone ({lock.note()}). Use that one, or stop it with Ctrl-C in its terminal."
        )
    return was_cut_off


def _welcome(console: Console, place: Home, product: Product) -> None:
    environment, ports = product.environment, product.ports
    app = environment["BASE_URL"]
    addresses = [
        ("app", app, "log in as one of those below"),
        ("API", f"{app}/developers", "how a program begins, and what it can ask for"),
    ]
    if "inbox" in ports:
        addresses += [
            ("inbox", f"http://{HOST}:{ports['inbox']}", "every mail the product sends, and all templates"),
            ("inbox-us", f"http://{HOST}:{ports['inbox-us']}", "mails of organizations in the region US"),
            ("SendGrid", f"http://{HOST}:{ports['sendgrid']}", "bounces, complaints, outages"),
            ("identity", f"http://{HOST}:{ports['oidc']}", "a provider to log in with"),
            ("codes", f"http://{HOST}:{ports['oidc']}/authenticator", "what staff type in after the password"),
            ("Stripe", f"http://{HOST}:{ports['stripe']}", "payments, events, and what can go wrong"),
            ("rates", f"http://{HOST}:{ports['rates']}", "exchange rates, and what can go wrong"),
            ("GitHub", f"http://{HOST}:{ports['github']}", "repositories, and what can go wrong"),
            ("Plausible", f"http://{HOST}:{ports['plausible']}", "web traffic, and what can go wrong"),
            ("scanner", f"http://{HOST}:{ports['scanner']}", "viruses, and what can go wrong with looking for them"),
            ("webhooks", f"http://{HOST}:{ports['receiver']}", "a customer's server that takes ours"),
        ]
    addresses += [("logs", _short(place.logs), "one file for each part")]
    logins = [(one["role"], one["email"], one["password"]) for one in product.logins]
    logins += [
        ("", "authenticator key", one["authenticator_key"]) for one in product.logins if "authenticator_key" in one
    ]
    console.say()
    console.box(f"Ballast is ready after {console.elapsed:.1f} s. Ctrl-C stops it.", [addresses, logins])
    # Not in the box, which they would make wider than a terminal.
    for key in (one["api_key"] for one in product.logins if "api_key" in one):
        console.say(f"API: curl -H 'Authorization: Bearer {key}' {app}/api/v1/indicators")
    console.say(f"Metrics: curl -H 'Authorization: Bearer {environment['METRICS_TOKEN']}' {app}/metrics")


def _short(path: Path) -> str:
    """As a person in the repository would type it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


if __name__ == "__main__":
    sys.exit(main())
