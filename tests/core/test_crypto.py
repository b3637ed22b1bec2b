"""Keys: one purpose per signature, tampering and swapping are noticed, rotation keeps old secrets readable."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.crypto import BadSignature, Keyring, conceal, derive_key, keyed_hash, new_token, reveal, sign, unsign


@given(st.binary(max_size=200))
def test_signed_values_come_back(payload: bytes) -> None:
    assert unsign("test", sign("test", payload)) == payload


def test_a_signature_fits_one_purpose() -> None:
    with pytest.raises(BadSignature):
        unsign("reset", sign("cursor", b"same"))


def test_nothing_that_must_not_be_guessed_is_shorter_than_128_bits() -> None:
    """Keys, ids, hashes that things are found by, and signatures (ASVS 11.2.3, 11.5.1)."""
    assert len(derive_key("root", "purpose")) * 8 == 256
    assert len(keyed_hash("purpose", "value")) * 8 == 256
    assert len(base64.urlsafe_b64decode(new_token() + "==")) * 8 >= 256
    assert len({new_token() for _ in range(1_000)}) == 1_000
    assert len(base64.urlsafe_b64decode(sign("purpose", b"") + "==")) * 8 >= 128
    assert len(Keyring("1:secret").encrypt(b"", "here")) >= 12 + 16, "a nonce of 96 bits and a tag of 128"


@given(st.text(max_size=80))
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadSignature):
        unsign("test", text)


def test_every_altered_character_is_noticed() -> None:
    signed = sign("test", b"payload of some length")
    for position in range(len(signed) - 1):
        other = "A" if signed[position] != "A" else "B"
        with pytest.raises(BadSignature):
            unsign("test", signed[:position] + other + signed[position + 1 :])


@given(st.binary(min_size=5, max_size=200))
def test_concealed_values_come_back_and_cannot_be_read_on_the_way(payload: bytes) -> None:
    told = conceal("test", payload)
    assert reveal("test", told) == payload
    assert payload not in base64.urlsafe_b64decode(told + "==")
    assert told != conceal("test", payload), "nobody sees that two are about the same person"
    with pytest.raises(BadSignature):
        reveal("reset", told)
    with pytest.raises(BadSignature):
        unsign("test", told)


@given(st.text(max_size=80))
def test_what_was_never_concealed_is_refused(text: str) -> None:
    with pytest.raises(BadSignature):
        reveal("test", text)


def test_every_altered_character_of_a_concealed_value_is_noticed() -> None:
    told = conceal("test", b"payload of some length")
    for position in range(len(told) - 1):
        other = "A" if told[position] != "A" else "B"
        with pytest.raises(BadSignature):
            reveal("test", told[:position] + other + told[position + 1 :])


def test_keys_differ_by_purpose_and_hashes_are_keyed() -> None:
    assert derive_key("root", "a") != derive_key("root", "b")
    assert keyed_hash("a", "value") != keyed_hash("b", "value")
    assert len(new_token()) >= 43


def test_encrypted_values_are_bound_to_their_place() -> None:
    ring = Keyring("1:first secret")
    sealed = ring.encrypt(b"totp", "users:totp:1")
    assert ring.decrypt(sealed, "users:totp:1") == b"totp"
    with pytest.raises(BadSignature):
        ring.decrypt(sealed, "users:totp:2")
    with pytest.raises(BadSignature):
        ring.decrypt(sealed[:-1] + bytes([sealed[-1] ^ 1]), "users:totp:1")


def test_rotation_reads_old_and_writes_new() -> None:
    old = Keyring("1:first").encrypt(b"kept", "here")
    rotated = Keyring("2:second,1:first")
    assert rotated.decrypt(old, "here") == b"kept"
    fresh = rotated.encrypt(b"new", "here")
    with pytest.raises(BadSignature, match="not in ENCRYPTION_KEYS"):
        Keyring("1:first").decrypt(fresh, "here")


@pytest.mark.parametrize("wrong", ["1", "1:", "0:secret", "1000:secret", "one:secret", "1:a,1:b", ""])
def test_a_keyring_that_is_none_is_refused_without_showing_its_secrets(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"id") as refused:
        Keyring(wrong)
    assert "secret" not in str(refused.value).replace("id:secret", "")
