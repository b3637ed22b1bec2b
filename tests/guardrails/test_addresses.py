"""The caller's address comes from our own proxies, never from the caller."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from service.guardrails.addresses import bucket_of, client_address, is_from_proxy

PROXIES = (ip_network("10.0.0.0/8"), ip_network("2001:db8:ffff::/48"))


def scope(peer: str | None, *forwarded: str) -> dict[str, Any]:
    client = (peer, 1234) if peer is not None else None
    return {"type": "http", "client": client, "headers": [(b"x-forwarded-for", line.encode()) for line in forwarded]}


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("198.51.100.1", ["203.0.113.7"], "198.51.100.1"),  # a stranger's header counts for nothing
        ("10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["1.2.3.4, 203.0.113.7"], "203.0.113.7"),  # what the client wrote lies further left
        ("10.0.0.1", ["1.2.3.4", "203.0.113.7, 10.9.9.9"], "203.0.113.7"),  # through two proxies, on two lines
        ("10.0.0.1", [", ".join(["1.2.3.4"] * 500) + ", 203.0.113.7"], "203.0.113.7"),  # junk hides nobody
        ("10.0.0.1", [", ".join(["203.0.113.7"] + ["10.0.0.2"] * 10)], "10.0.0.1"),  # more hops than we have
        ("10.0.0.1", ["203.0.113.7, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["fe80::1%<script>"], "10.0.0.1"),
        ("10.0.0.1", ["1" * 5000], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.9"], "10.0.0.1"),  # only our own: nobody outside asked
        ("10.0.0.1", ["203.0.113.7:5123"], "203.0.113.7"),
        ("2001:db8:ffff::1", ["[2001:db8::7]:443"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["::ffff:203.0.113.7"], "203.0.113.7"),  # IPv4 in an IPv6 coat
        ("testclient", ["203.0.113.7"], "testclient"),
        (None, ["203.0.113.7"], ""),
    ],
)
def test_the_address_comes_from_our_own_proxies_alone(peer: str | None, forwarded: list[str], expected: str) -> None:
    assert client_address(scope(peer, *forwarded), PROXIES) == expected


def test_a_forged_header_buys_no_fresh_limit() -> None:
    forged = [scope("198.51.100.1", f"192.0.2.{n}") for n in range(50)]
    through_proxy = [scope("10.0.0.1", f"192.0.2.{n}, 198.51.100.1") for n in range(50)]
    assert {client_address(one, PROXIES) for one in forged + through_proxy} == {"198.51.100.1"}
    believed = {one["headers"][0][1].split(b",")[0] for one in forged}  # bites: what most code does
    assert len(believed) == 50
    assert not is_from_proxy(forged[0], PROXIES)
    assert is_from_proxy(through_proxy[0], PROXIES)
    assert not is_from_proxy(through_proxy[0], ())


def test_one_ipv6_subscriber_is_one_caller() -> None:
    assert {bucket_of(f"2001:db8:1:2::{n:x}") for n in range(1, 200)} == {"2001:db8:1:2::/64"}
    assert bucket_of("2001:db8:1:3::1") != bucket_of("2001:db8:1:2::1")
    assert bucket_of("203.0.113.7") == "203.0.113.7"
