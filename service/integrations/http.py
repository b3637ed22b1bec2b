"""The one door to other people's web servers: bounded in time and size, never to our own network, no redirects.

Protects from: a peer that hangs or drips (an httpx timeout is per read, so a byte a second holds a worker for ever),
answers that fill the memory, requests forged through us to the inside (SSRF; ASVS 1.3.6), redirects that leave the
checked address. The address is checked where the connection is made: a name that resolves differently a moment later
(DNS rebinding) gains nothing.

In development the addresses named in the settings (the sandbox's) may be private; in production only our own stores
may, over TLS, for what we ask ourselves: a bucket behind a private endpoint is asked like any other.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from http.cookiejar import DefaultCookiePolicy
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx
import orjson
from opentelemetry.trace import SpanKind

from service.core import telemetry
from service.core.regions import bucket_address, store_address
from service.core.settings import Settings
from service.guardrails.cards import without_cards

DEADLINE_SECONDS = 5.0
MOST_BYTES = 1_048_576
MOST_CONNECTIONS = 20
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
TRANSLATED = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
"""NAT64 (RFC 6052, RFC 8215): an IPv4 address in IPv6 clothes, possibly a private one."""
RELAYS = IPv4Network("192.88.99.0/24")
"""The withdrawn 6to4 relays (RFC 7526): whoever still runs one inside is asked through it; Python calls it global."""


class PeerFailed(Exception):
    """The other side did not give a usable answer: away, too slow, too large, not what was agreed."""


class PeerUnreached(PeerFailed):
    """No connection was made: whatever was asked for has certainly not been done."""


class AddressRefused(PeerUnreached):
    """The address is not one we talk to: another scheme, or a machine inside a network."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json_object(self) -> dict[str, Any]:
        """The body as a JSON object, card numbers masked; raises PeerFailed for anything else."""
        try:
            found = orjson.loads(without_cards(self.body))
        except orjson.JSONDecodeError as error:
            raise PeerFailed("the peer did not answer with JSON") from error
        if not isinstance(found, dict):
            raise PeerFailed("the peer did not answer with a JSON object")
        return found


class HttpClient:
    """One per process for what we ask ourselves; addresses that customers chose are asked through one of their own.

    `sandbox`: addresses that may be private, outside production. `ports`: the only ones that others may name.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        sandbox: Iterable[str] | None = None,
        ports: frozenset[int] | None = None,
        connections: int = MOST_CONNECTIONS,
    ) -> None:
        sources = (settings.rates_api_base, settings.github_api_base, settings.plausible_api_base)
        pools = (url for place in settings.places.values() for url in (place.storage_endpoint, place.sendgrid_api_base))
        own = (settings.oidc_issuer, *pools, *sources)
        known = () if settings.is_production else own if sandbox is None else sandbox
        self._private_hosts = frozenset(host for url in known if (host := urlsplit(url).hostname))
        self._ports = ports
        # Customers' addresses (`sandbox`) may be none of these: who names one as theirs would reach it through us.
        stores = [bucket_address(place) for place in settings.places.values() if store_address(place)]
        own_stores = {urlsplit(url).hostname or "" for url in stores} if sandbox is None else set()
        self._network = _CheckedNetwork(self._private_hosts | own_stores, connections)
        self._client = httpx.AsyncClient(
            transport=_CheckedTransport(self._network, connections),
            follow_redirects=False,
            trust_env=False,
            timeout=httpx.Timeout(DEADLINE_SECONDS),
            headers={"User-Agent": "Ballast"},
        )
        # One client serves many calls: what one peer sets must not travel along with the next.
        self._client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        json: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        basic: tuple[str, str] | None = None,
        deadline: float = DEADLINE_SECONDS,
        most_bytes: int = MOST_BYTES,
        cut: bool = False,
    ) -> Answer:
        """The whole exchange, name look-up included, within `deadline` seconds; raises PeerFailed.

        `cut`: of a longer answer keep the first bytes, as they came, and hang up; else it is refused.
        """
        host = self._check(url)
        with telemetry.span(f"{method} {host}", SpanKind.CLIENT, **{"server.address": host}):
            try:
                async with asyncio.timeout(deadline):
                    request = self._client.build_request(
                        method, url, headers=dict(headers or {}), data=form, json=json, content=content
                    )
                    answer = await self._client.send(
                        request, stream=True, auth=httpx.BasicAuth(*basic) if basic else None
                    )
                    try:
                        return Answer(answer.status_code, answer.headers, await _read(answer, most_bytes, cut=cut))
                    finally:
                        await answer.aclose()
            except TimeoutError as error:
                raise PeerFailed(f"{host} did not answer within {deadline:g} seconds") from error
            except UNSENT as error:
                raise PeerUnreached(f"{host} could not be reached: {type(error).__name__}") from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise PeerFailed(f"{host} could not be asked: {type(error).__name__}") from error

    async def look_up(self, url: str, *, deadline: float = DEADLINE_SECONDS) -> None:
        """Whether this address would be asked if it were to be now; raises AddressRefused, PeerFailed."""
        host = self._check(url)
        try:
            async with asyncio.timeout(deadline):
                await self._network.resolve(host, urlsplit(url).port or 443)
        except TimeoutError as error:
            raise PeerFailed(f"{host} could not be looked up within {deadline:g} seconds") from error
        except httpcore.ConnectError as error:
            raise PeerFailed(str(error)) from error

    async def aclose(self) -> None:
        await self._client.aclose()
        self._network.close()

    def _check(self, url: str) -> str:
        """The host of an address that may be asked at all."""
        try:
            parts = urlsplit(url)
            port = parts.port or 443
        except ValueError as error:
            raise AddressRefused("this is no address") from error
        host = parts.hostname or ""
        if parts.username is not None or not host:
            raise AddressRefused("the address names no host, or carries a password")
        if parts.scheme != "https" and not (parts.scheme == "http" and host in self._private_hosts):
            raise AddressRefused("only https addresses are asked")
        if self._ports and port not in self._ports and host not in self._private_hosts:
            raise AddressRefused(f"only the ports {', '.join(map(str, sorted(self._ports)))} are asked")
        return host


async def _read(answer: httpx.Response, most_bytes: int, *, cut: bool) -> bytes:
    """Counts what arrives after decompression, so that a compressed bomb is cut off; cut short, nothing is unpacked."""
    body = bytearray()
    async for part in answer.aiter_raw() if cut else answer.aiter_bytes():
        body += part
        if len(body) > most_bytes:
            if cut:
                return bytes(body[:most_bytes])
            raise PeerFailed(f"the answer is larger than {most_bytes} bytes")
    return bytes(body)


@lru_cache(maxsize=1)
def authorities() -> ssl.SSLContext:
    """Whom we believe who a server is. Made once: reading the store takes 25 ms, and each process has five clients."""
    return httpx.create_ssl_context(trust_env=False)


class _CheckedTransport(httpx.AsyncHTTPTransport):
    """httpx on a pool whose connections go through `_CheckedNetwork`; httpx itself has no parameter for that."""

    def __init__(self, network: _CheckedNetwork, connections: int) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=authorities(),
            max_connections=connections,
            keepalive_expiry=5.0,
            network_backend=network,
        )


class _CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Resolves a name once, refuses it if ANY of its addresses is private, and connects to what it has checked."""

    def __init__(self, private_hosts: frozenset[str], connections: int) -> None:
        self._private_hosts = private_hosts
        self._network = httpcore.AnyIOBackend()
        # Threads of our own: a name server that hangs keeps a look-up long after its deadline, and in the loop's few
        # threads it would keep everybody else's names waiting.
        self._threads = ThreadPoolExecutor(2 * connections, "look-up")

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self.resolve(host, port)
        return await self._network.connect_tcp(addresses[0], port, timeout, local_address, socket_options)

    async def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a name, if we may talk to every one of them; raises ConnectError, AddressRefused."""
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} has no address") from error
        addresses = [str(entry[4][0]) for entry in found]
        if host not in self._private_hosts and not all(is_public(address) for address in addresses):
            raise AddressRefused(f"{host} is inside a private network")
        return addresses

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)


def is_public(text: str) -> bool:
    """Whether an IP address is one that anybody on the internet could be reached at."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return _is_open(address.ipv4_mapped)
        wrapped = address.sixtofour is not None or address.teredo is not None
        if wrapped or address.is_site_local or any(address in network for network in TRANSLATED):
            return False
    return _is_open(address)


def _is_open(address: IPv4Address | IPv6Address) -> bool:
    return (
        address.is_global
        and address not in RELAYS
        and not (address.is_multicast or address.is_reserved or address.is_unspecified)
    )
