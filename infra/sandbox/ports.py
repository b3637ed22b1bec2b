"""Find out whether a port on the loopback interface is free, and pick one that is."""

from __future__ import annotations

import random
import socket

from infra.sandbox.errors import PortBusy

HOST = "127.0.0.1"
STEPS = 50
OURS = range(12_000, 32_000)
"""Below what systems lend to outgoing connections, any of which may hold a port that was free a moment ago."""


def is_free(port: int, host: str = HOST) -> bool:
    """True when we could listen there now."""
    with socket.socket() as probe:
        # Without this a port whose old connections linger in TIME_WAIT looks busy for a minute after a restart.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str = HOST) -> int:
    """A port nobody listens on; only another search like this one could take it now. Raises PortBusy."""
    for candidate in random.SystemRandom().sample(OURS, STEPS):
        if is_free(candidate, host):
            return candidate
    raise PortBusy(f"{STEPS} ports between {OURS.start} and {OURS.stop} are all in use; stop something and try again")


def next_free(port: int, host: str = HOST) -> int:
    """`port`, or the first free one after it. Raises PortBusy after 50 tries."""
    for candidate in range(port, min(port + STEPS, 65_536)):
        if is_free(candidate, host):
            return candidate
    raise PortBusy(f"ports {port} to {port + STEPS - 1} are all in use; stop something and try again")


def listen(port: int, host: str = HOST) -> socket.socket:
    """A listening socket; port 0 lets the system choose. Raises PortBusy."""
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((host, port))
    except OSError as error:
        server.close()
        raise PortBusy(f"port {port} on {host} is in use by another program") from error
    server.listen(128)
    return server
