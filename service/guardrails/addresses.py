"""Who is calling, by address: forwarding headers are believed from configured proxies only.

Protects from: a caller who writes X-Forwarded-For himself and so gets a fresh rate limit with every request, or hides
from the audit trail (ASVS 4.1.3). How to use: TRUSTED_PROXIES names the proxies' networks; the outermost layer puts
`client_address` into `scope["state"]["address"]`. The server's own proxy handling stays off (uvicorn believes every
header that comes from 127.0.0.1). Limits: `Forwarded` and X-Real-IP are ignored; each proxy must append to
X-Forwarded-For, which nginx, Envoy and the clouds' load balancers do.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.types import Scope

Address = IPv4Address | IPv6Address
Networks = tuple[IPv4Network | IPv6Network, ...]

MOST_HOPS = 10
LONGEST = 64


def client_address(scope: Scope, trusted_networks: Networks) -> str:
    """The right-most address that is not one of our proxies; whenever in doubt, the peer of the connection."""
    peer = _peer(scope)
    if not is_from_proxy(scope, trusted_networks):
        return str(_parse(peer) or peer)
    for walked, hop in enumerate(_hops_from_the_right(scope)):
        address = _parse(hop) if walked < MOST_HOPS else None
        if address is None:
            break
        if not _is_in(address, trusted_networks):
            return str(address)
    return str(_parse(peer))


def is_from_proxy(scope: Scope, trusted_networks: Networks) -> bool:
    """Whether the connection comes from a configured proxy, so that what it says about the caller counts."""
    if not trusted_networks:
        return False
    peer = _parse(_peer(scope))
    return peer is not None and _is_in(peer, trusted_networks)


@lru_cache(maxsize=4096)
def bucket_of(address: str) -> str:
    """What counts as one caller: an IPv4 address, or an IPv6 /64, which is what one subscriber gets."""
    parsed = _parse(address)
    return str(ip_network((parsed, 64), strict=False)) if isinstance(parsed, IPv6Address) else address


@lru_cache(maxsize=4096)
def region_of(address: str) -> str:
    """Enough of an address to recognize one's own device or an attack by, too little to find a household: /24, /48."""
    parsed = _parse(address)
    return str(ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False)) if parsed else ""


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _hops_from_the_right(scope: Scope) -> Iterator[str]:
    lines = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    # What lies further left was written by strangers and is never looked at, so it is not even split.
    for hop in reversed(b",".join(lines).decode("latin-1").rsplit(",", MOST_HOPS + 1)):
        yield hop.strip()


def _is_in(address: Address, networks: Networks) -> bool:
    return any(address in network for network in networks)


@lru_cache(maxsize=4096)
def _parse(text: str) -> Address | None:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # some load balancers append the caller's port
        text = text.partition(":")[0]
    # An IPv6 zone ("fe80::1%...") may hold any text, which would end up in logs and the audit trail.
    if len(text) > LONGEST or "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
