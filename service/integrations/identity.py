"""Log in with somebody else's identity provider: OpenID Connect Core 1.0, code flow with PKCE (RFC 7636).

Protects from: a forged or borrowed answer. State ties the answer to this browser, nonce ties the ID token to this
attempt, PKCE ties the code to us; issuer, audience, expiry and signature are checked, and only asymmetric algorithms
are accepted (a token "signed" with our public data or with nothing is refused). ASVS 10.5.

Claims are text from outside like any other: a card number among them is masked (name), refused (address) or kept as a
keyed hash (subject).

Limits: a provider that hangs is given up on after seconds, and at most a few people wait for it at once (bulkhead), so
that it cannot hold every database connection. Nothing here decides who the person is with us: see features.accounts.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from service.core import clock
from service.core.crypto import keyed_hash, new_token
from service.core.errors import Conflict, Unavailable
from service.core.masking import masked
from service.core.regions import everywhere
from service.core.settings import Settings
from service.integrations.http import HttpClient, PeerFailed

REACH = everywhere("the provider that people log in with: accounts belong to no region")

ALGORITHMS = ("RS256", "PS256", "ES256")
LEEWAY_SECONDS = 60
CACHE_SECONDS = 3600.0
KEYS_MINIMUM_SECONDS = 60.0
"""An unknown key id makes us ask for the keys again, but a stranger's tokens cannot make us hammer the provider."""
MOST_AT_ONCE = 4
MOST_BYTES = 256 * 1024


class LoginRefused(Exception):
    """The provider's answer is not to be believed; the reason is for the log, not for the person."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the browser must bring back; kept in Redis until it returns, behind a cookie (guardrails.before_login)."""

    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True, slots=True)
class ExternalPerson:
    """Who the provider says this is. `subject` identifies; the address is only a claim unless verified."""

    issuer: str
    subject: str
    email: str
    email_verified: bool
    name: str
    authenticated_at: int
    """Seconds since the epoch of the provider's own login; 0 when it did not say."""


class IdentityProvider:
    """The configured provider; a resource. `enabled` is False when no issuer is set."""

    def __init__(self, settings: Settings, http: HttpClient) -> None:
        self._settings = settings
        self._http = http
        self._busy = 0
        self._discovered: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    @property
    def enabled(self) -> bool:
        return bool(self._settings.oidc_issuer)

    @property
    def name(self) -> str:
        return self._settings.oidc_name

    @property
    def redirect_uri(self) -> str:
        """From the settings, never from the request's Host header."""
        return f"{self._settings.base_url.rstrip('/')}/login/provider/return"

    async def begin(self, *, again: bool = False) -> tuple[Attempt, str]:
        """A new attempt and the provider's address to send the browser to; `again` insists on a fresh login there."""
        with self._place():
            provider = await self._discover()
        attempt = Attempt(state=new_token(), nonce=new_token(), verifier=new_token())
        digest = hashlib.sha256(attempt.verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self._settings.oidc_client_id,
            "redirect_uri": self.redirect_uri,
            "scope": "openid email profile",
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        if again:
            asked |= {"prompt": "login", "max_age": "0"}
        place = _text(provider, "authorization_endpoint")
        return attempt, f"{place}{'&' if '?' in place else '?'}{urlencode(asked)}"

    async def finish(self, attempt: Attempt, code: str, *, issuer: str = "") -> ExternalPerson:
        """Exchange the code and check everything; raises LoginRefused or Unavailable."""
        if issuer and issuer != self._settings.oidc_issuer:
            raise LoginRefused("the answer names another issuer (RFC 9207)")
        with self._place():
            provider = await self._discover()
            secret = self._settings.oidc_client_secret.get_secret_value()
            answer = await self._ask(
                "POST",
                _text(provider, "token_endpoint"),
                form={
                    "grant_type": "authorization_code",
                    "code": code,
                    "redirect_uri": self.redirect_uri,
                    "code_verifier": attempt.verifier,
                },
                basic=(quote(self._settings.oidc_client_id, ""), quote(secret, "")),
            )
            claims = await self._verify(_text(answer, "id_token"), attempt.nonce)
        return ExternalPerson(
            issuer=self._settings.oidc_issuer,
            subject=_subject(str(claims["sub"])),
            email=_address(str(claims.get("email") or "")),
            # Some providers send the word instead of the value; anything else is not verified.
            email_verified=claims.get("email_verified") in (True, "true"),
            name=masked(str(claims.get("name") or "")),
            authenticated_at=claims["auth_time"] if isinstance(claims.get("auth_time"), int) else 0,
        )

    async def _verify(self, token: str, nonce: str) -> dict[str, Any]:
        try:
            try:
                decoded = jwt.decode(token, await self._key_set(), algorithms=list(ALGORITHMS))
            except InvalidKeyIdError:
                decoded = jwt.decode(token, await self._key_set(renew=True), algorithms=list(ALGORITHMS))
            client = self._settings.oidc_client_id
            jwt.JWTClaimsRegistry(
                now=int(clock.now().timestamp()),
                leeway=LEEWAY_SECONDS,
                iss={"essential": True, "value": self._settings.oidc_issuer},
                aud={"essential": True, "value": client},
                sub={"essential": True},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": nonce},
            ).validate(decoded.claims)
        except (JoseError, ValueError, TypeError, OverflowError) as error:
            raise LoginRefused(f"the ID token is not valid: {type(error).__name__}") from error
        claims = decoded.claims
        # Core section 3.1.3.7: a token for several parties must say that we are the one it was made for.
        audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if claims.get("azp", client) != client or (len(audiences) > 1 and "azp" not in claims):
            raise LoginRefused("the ID token was made for another client")
        return claims

    async def _discover(self) -> dict[str, Any]:
        if self._discovered and time.monotonic() - self._discovered[0] < CACHE_SECONDS:
            return self._discovered[1]
        issuer = self._settings.oidc_issuer
        found = await self._ask("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise LoginRefused("the discovery document belongs to another issuer")
        self._discovered = (time.monotonic(), found)
        return found

    async def _key_set(self, *, renew: bool = False) -> KeySet:
        age = time.monotonic() - self._keys[0] if self._keys else CACHE_SECONDS
        if self._keys and age < (KEYS_MINIMUM_SECONDS if renew else CACHE_SECONDS):
            return self._keys[1]
        found = await self._ask("GET", _text(await self._discover(), "jwks_uri"))
        listed = found.get("keys")
        if not isinstance(listed, list) or not all(isinstance(key, dict) for key in listed):
            raise LoginRefused("the provider's key set is not one (RFC 7517)")
        # A symmetric key in a public list would let everybody sign.
        keys = KeySet.import_key_set({"keys": [key for key in listed if key.get("kty") != "oct"]})
        self._keys = (time.monotonic(), keys)
        return keys

    async def _ask(
        self, method: str, url: str, *, form: dict[str, str] | None = None, basic: tuple[str, str] | None = None
    ) -> dict[str, Any]:
        try:
            answer = await self._http.send(method, url, form=form, basic=basic, most_bytes=MOST_BYTES)
            if 400 <= answer.status < 500:
                raise LoginRefused(f"the provider refused with {answer.status}")
            if answer.status != 200:
                raise PeerFailed(f"the provider answered {answer.status}")
            return answer.json_object()
        except PeerFailed as error:
            raise Unavailable(f"{self.name} cannot be reached right now.", retry_after=10) from error

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._busy >= MOST_AT_ONCE:
            raise Unavailable(f"Too many people are waiting for {self.name}.", retry_after=5)
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1


def _subject(claim: str) -> str:
    """Some providers count their people in sixteen digits: whoever drew a card's is known by a keyed hash of it."""
    return claim if masked(claim) == claim else f"hash-{keyed_hash('identity.subject', claim).hex()}"


def _address(claim: str) -> str:
    if masked(claim) != claim:
        raise Conflict(
            "The provider's e-mail address for you looks like a card number. Nothing was stored.",
            mend="Change it there, then log in again.",
        )
    return claim


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not value:
        raise LoginRefused(f"the provider's answer has no {name}")
    return value
