"""Whom a copy of something from outside names: whole addresses, however they are written, and nobody else's."""

from __future__ import annotations

import pytest

from service.core.ids import new_id
from service.guardrails.subjects import Person, mentions


@pytest.mark.parametrize(
    ("address", "body"),
    [
        ("a&b@example.com", rb'{"email": "a\u0026b@example.com"}'),
        ("o/x@example.com", rb'{"data": [{"to": "o\/x@example.com"}]}'),
        ("ann@example.com", b'{"note": "Receipt for Ann <ANN@Example.com>."}'),
        ("ann@example.com", b'{"ann@example.com": 1}'),
        ("ann@example.com", b"From: ann@example.com, no JSON"),
    ],
)
def test_an_address_is_found_however_it_is_written(address: str, body: bytes) -> None:
    assert mentions(Person(new_id(), (address,)), body)


@pytest.mark.parametrize(
    "other",
    ["joann@example.com", "ann@example.com.au", "x-ann@example.com", "o/ann@example.com", "ann@example.community"],
)
def test_an_address_that_contains_another_is_somebody_elses(other: str) -> None:
    assert not mentions(Person(new_id(), ("ann@example.com",)), b'{"email": "%b"}' % other.encode())
    assert not mentions(Person(new_id(), ()), b'{"email": "ann@example.com"}')
