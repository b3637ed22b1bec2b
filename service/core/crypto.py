"""Keys and what we do with them: one derived key per purpose, so no signature fits two doors. Of two roots: SECRET_KEY,
changed to end every session and link, and LOOKUP_KEY for what must be found again for years (LASTING), never changed.

- `sign` / `unsign`: tamper-proof values that leave the house (cursors, flash messages). Keyed BLAKE2b (RFC 7693).
- `conceal` / `reveal`: the same for what nobody shall read on the way (the address in a mailed link). AES-256-GCM.
- `keyed_hash`: what we store of a secret that we only ever compare (session ids, one-time tokens).
- `Keyring`: AES-256-GCM for what we must read back (TOTP secrets), bound to its place by associated data, with
  key rotation: the newest key encrypts, every listed key decrypts.
"""

from __future__ import annotations

import base64
import hmac
import os
import secrets
from functools import lru_cache
from hashlib import blake2b, sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from service.core.settings import get_settings

TOKEN_BYTES = 32
SIGNATURE_BYTES = 16
NONCE_BYTES = 12
LASTING = frozenset(
    {
        "mail.address", "api-key", "accounts.recovery-code", "unsubscribe", "unsubscribe.sealed", "seed.api-key",
        "identity.subject",
    }
)  # fmt: skip
"""What people would miss after another SECRET_KEY: who objected to mail or was erased, programs' keys, the way in
without a phone or with another provider's login, and the link in sent mails that stops more of them. A test lists each
as this or as passing."""
LARGEST_KEY = 999
"""So the first byte of what was encrypted is below 4, and of text never."""


class BadSignature(ValueError):
    """The value was not made by us for this purpose, or was altered on the way."""


def derive_key(root: str, purpose: str) -> bytes:
    """HKDF-SHA256 (RFC 5869): 32 bytes that differ per purpose."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode()).derive(root.encode())


@lru_cache(maxsize=64)
def purpose_key(purpose: str) -> bytes:
    return derive_key(get_settings().root_key(lasting=purpose in LASTING).get_secret_value(), purpose)


def new_token() -> str:
    """256 random bits, URL-safe: session ids, reset and invitation tokens."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def keyed_hash(purpose: str, value: str) -> bytes:
    """32 bytes of keyed BLAKE2b (RFC 7693): a leaked database or Redis dump cannot be replayed without our key.

    Every request does this once: HMAC through OpenSSL takes ten times as long.
    """
    return blake2b(value.encode("utf-8", "surrogatepass"), key=purpose_key(purpose), digest_size=32).digest()


def sign(purpose: str, payload: bytes) -> str:
    """URL-safe text that carries `payload` and proves that we made it for this purpose."""
    signature = _signature(purpose, payload)
    return base64.urlsafe_b64encode(signature + payload).rstrip(b"=").decode()


def unsign(purpose: str, text: str) -> bytes:
    """The payload of `sign`; raises BadSignature."""
    raw = _raw(text)
    signature, payload = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _signature(purpose, payload)):
        raise BadSignature("signature does not match")
    return payload


def conceal(purpose: str, payload: bytes) -> str:
    """URL-safe text that carries `payload` unreadably, never twice the same; as with `Keyring`, good for 2^32 of them
    under one key."""
    nonce = os.urandom(NONCE_BYTES)
    hidden = AESGCM(purpose_key(purpose)).encrypt(nonce, payload, purpose.encode())
    return base64.urlsafe_b64encode(nonce + hidden).rstrip(b"=").decode()


def reveal(purpose: str, text: str) -> bytes:
    """The payload of `conceal`; raises BadSignature."""
    raw = _raw(text)
    try:
        return AESGCM(purpose_key(purpose)).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], purpose.encode())
    except (InvalidTag, ValueError) as error:  # ValueError: too short for a nonce
        raise BadSignature("not concealed for this purpose, or altered") from error


def _raw(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, UnicodeError) as error:
        raise BadSignature("not a signed value") from error


def _signature(purpose: str, payload: bytes) -> bytes:
    return blake2b(payload, key=purpose_key(purpose), digest_size=SIGNATURE_BYTES).digest()


class Keyring:
    """AES-256-GCM under the newest of several keys; `place` (table:column:row) is authenticated, so swaps fail."""

    def __init__(self, specification: str) -> None:
        """Raises ValueError for what is no list of id:secret; the message never shows a secret."""
        self._keys: dict[int, AESGCM] = {}
        self.fingerprints: dict[int, str] = {}
        """Tells apart two secrets under one id; 64 bits that say nothing about either."""
        for part in specification.split(","):
            name, _, secret = part.strip().partition(":")
            key_id = int(name) if name.isascii() and name.isdigit() else 0
            if not 1 <= key_id <= LARGEST_KEY or not secret:
                raise ValueError(f"each key is id:secret, with an id from 1 to {LARGEST_KEY}")
            if key_id in self._keys:
                raise ValueError(f"two keys have the id {key_id}")
            self._keys[key_id] = AESGCM(sha256(secret.encode()).digest())
            self.fingerprints[key_id] = derive_key(secret, "keyring.fingerprint")[:8].hex()
        self.newest = next(iter(self._keys))

    @property
    def ids(self) -> frozenset[int]:
        return frozenset(self._keys)

    def encrypt(self, plain: bytes, place: str) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._keys[self.newest].encrypt(nonce, plain, place.encode())
        return self.newest.to_bytes(2, "big") + nonce + sealed

    def decrypt(self, sealed: bytes, place: str) -> bytes:
        """Raises BadSignature when altered, moved to another place, or made by a key no longer listed."""
        key = self._keys.get(int.from_bytes(sealed[:2], "big"))
        if key is None:
            key_id = int.from_bytes(sealed[:2], "big")
            raise BadSignature(f"encrypted with key {key_id}, which is not in ENCRYPTION_KEYS")
        try:
            return key.decrypt(sealed[2 : 2 + NONCE_BYTES], sealed[2 + NONCE_BYTES :], place.encode())
        except InvalidTag as error:
            raise BadSignature("altered, or moved from another place") from error


@lru_cache(maxsize=1)
def keyring() -> Keyring:
    return Keyring(get_settings().encryption_keys.get_secret_value())
