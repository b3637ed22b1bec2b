"""The OpenID Connect client, rule by rule, against a provider that breaks them one at a time."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey

from infra.sandbox.oidc import OIDCProvider
from infra.sandbox.oidc_tokens import OIDCKnobs, Signer
from service.core import clock
from service.core.errors import Unavailable
from service.core.settings import Settings
from service.integrations import identity
from service.integrations.http import HttpClient
from service.integrations.identity import Attempt, IdentityProvider, LoginRefused

LogIn = Callable[[], Awaitable[tuple[Attempt, str]]]


@pytest.fixture(autouse=True)
def healthy(oidc: OIDCProvider) -> Iterator[None]:
    yield
    oidc.knobs = OIDCKnobs()


@pytest.fixture
async def provider(settings: Settings) -> AsyncIterator[IdentityProvider]:
    http = HttpClient(settings)
    yield IdentityProvider(settings, http)
    await http.aclose()


@pytest.fixture
def log_in(provider: IdentityProvider) -> LogIn:
    """Log in at the provider: the attempt, and the code that came back for it."""

    async def go() -> tuple[Attempt, str]:
        attempt, address = await provider.begin()
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        async with httpx.AsyncClient() as browser:
            answer = await browser.post(
                address.partition("?")[0], data=asked | {"email": "ada@example.com", "verified": "yes"}
            )
        return attempt, parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]

    return go


async def test_who_it_is(provider: IdentityProvider, log_in: LogIn, oidc: OIDCProvider) -> None:
    attempt, code = await log_in()
    person = await provider.finish(attempt, code, issuer=oidc.address)
    assert (person.issuer, person.email, person.email_verified) == (oidc.address, "ada@example.com", True)
    assert person.subject
    assert abs(person.authenticated_at - clock.now().timestamp()) < 60


@pytest.mark.parametrize("rule", ["wrong_nonce", "wrong_audience", "wrong_issuer", "bad_signature", "expired"])
async def test_a_token_that_breaks_a_rule_is_refused(
    provider: IdentityProvider, log_in: LogIn, oidc: OIDCProvider, rule: str
) -> None:
    attempt, code = await log_in()
    oidc.knobs = OIDCKnobs(**{rule: True})
    with pytest.raises(LoginRefused):
        await provider.finish(attempt, code)


async def test_a_stolen_code_is_worth_nothing_without_the_verifier(provider: IdentityProvider, log_in: LogIn) -> None:
    """PKCE: the code alone, in another attempt, is refused by the provider."""
    attempt, code = await log_in()
    with pytest.raises(LoginRefused, match="400"):
        await provider.finish(replace(attempt, verifier="x" * 43), code)


async def test_another_attempts_nonce_is_refused(provider: IdentityProvider, log_in: LogIn) -> None:
    attempt, code = await log_in()
    with pytest.raises(LoginRefused):
        await provider.finish(replace(attempt, nonce="another"), code)


async def test_a_code_works_once(provider: IdentityProvider, log_in: LogIn) -> None:
    attempt, code = await log_in()
    await provider.finish(attempt, code)
    with pytest.raises(LoginRefused):
        await provider.finish(attempt, code)


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
async def test_only_asymmetric_signatures_count(
    provider: IdentityProvider, log_in: LogIn, oidc: OIDCProvider, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    """Algorithm confusion: a token "signed" with nothing, or with what everybody can know as the HMAC key."""
    genuine = Signer.id_token

    def forged(self: Signer, *arguments: Any) -> str:
        claims = jwt.decode(genuine(self, *arguments), self._key).claims
        parts = [_base64(json.dumps(part).encode()) for part in ({"alg": algorithm, "kid": self._kid}, claims)]
        signed = b".".join(parts)
        known_to_all = self._key.as_pem(private=False)
        signature = b"" if algorithm == "none" else _base64(hmac.digest(known_to_all, signed, "sha256"))
        return (signed + b"." + signature).decode()

    attempt, code = await log_in()
    monkeypatch.setattr(Signer, "id_token", forged)
    with pytest.raises(LoginRefused, match="ID token"):
        await provider.finish(attempt, code)


@pytest.mark.parametrize("named", [True, False], ids=["under a known id", "under no id"])
@pytest.mark.parametrize("way", ["jwk", "jku", "x5u", "none of them"])
async def test_a_key_that_the_token_brings_along_is_not_believed(
    provider: IdentityProvider, log_in: LogIn, monkeypatch: pytest.MonkeyPatch, way: str, named: bool
) -> None:
    """The keys are those that the provider lists, whatever the token's own header holds or points to."""
    genuine, theirs = Signer.id_token, ECKey.generate_key("P-256")  # short enough for a header
    brought = {"jwk": theirs.as_dict(private=False), "none of them": None}
    registry = jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False)

    def forged(self: Signer, *arguments: Any) -> str:
        claims = jwt.decode(genuine(self, *arguments), self._key).claims
        header = {"alg": "ES256", way: brought.get(way, "https://evil.example/keys")}
        return jwt.encode(header | ({"kid": self._kid} if named else {}), claims, theirs, registry=registry)

    attempt, code = await log_in()
    monkeypatch.setattr(Signer, "id_token", forged)
    with pytest.raises(LoginRefused, match="ID token is not valid"):
        await provider.finish(attempt, code)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"nbf": 4_000_000_000}, "not valid"),
        ({"iat": 4_000_000_000}, "not valid"),
        ({"exp": None}, "not valid"),
        ({"sub": None}, "not valid"),
        ({"nonce": None}, "not valid"),
        ({"azp": "another-client"}, "another client"),
    ],
    ids=str,
)
async def test_a_token_of_another_time_or_for_another_is_refused(
    provider: IdentityProvider, log_in: LogIn, monkeypatch: pytest.MonkeyPatch, claims: dict[str, object], reason: str
) -> None:
    """Genuine in all else, and signed by the provider; one that says less than it must is refused as well."""
    genuine = Signer.id_token

    def other(self: Signer, *arguments: Any) -> str:
        said = jwt.decode(genuine(self, *arguments), self._key).claims | claims
        kept = {name: value for name, value in said.items() if value is not None}
        return jwt.encode({"alg": "RS256", "kid": self._kid}, kept, self._key)

    attempt, code = await log_in()
    monkeypatch.setattr(Signer, "id_token", other)
    with pytest.raises(LoginRefused, match=reason):
        await provider.finish(attempt, code)


def _base64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


async def test_the_providers_key_may_change(
    provider: IdentityProvider, log_in: LogIn, oidc: OIDCProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown key id makes us fetch the keys again, but not more than once a minute."""
    attempt, code = await log_in()
    await provider.finish(attempt, code)
    asked = 0
    genuine = provider._ask

    async def counting(method: str, url: str, **more: object) -> object:
        nonlocal asked
        asked += url.endswith("/jwks")
        return await genuine(method, url, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(provider, "_ask", counting)
    old = oidc._signer
    oidc._signer = Signer()
    try:
        for _ in range(3):
            attempt, code = await log_in()
            with pytest.raises(LoginRefused):
                await provider.finish(attempt, code)
        assert asked == 0, "the keys are younger than a minute"
        monkeypatch.setattr(identity, "KEYS_MINIMUM_SECONDS", 0.0)
        attempt, code = await log_in()
        assert (await provider.finish(attempt, code)).email == "ada@example.com"
        assert asked == 1
    finally:
        oidc._signer = old


@pytest.mark.parametrize("keys", [{}, {"keys": "none"}, {"keys": ["x"]}, {"keys": [{"kty": "RSA"}]}, {"keys": []}])
async def test_a_key_set_that_is_none_is_refused(
    provider: IdentityProvider, log_in: LogIn, monkeypatch: pytest.MonkeyPatch, keys: dict[str, object]
) -> None:
    attempt, code = await log_in()
    monkeypatch.setattr(Signer, "public_keys", lambda _: keys)
    with pytest.raises(LoginRefused):
        await provider.finish(attempt, code)


async def test_a_document_of_another_issuer_is_refused(settings: Settings, oidc: OIDCProvider) -> None:
    http = HttpClient(settings)
    try:
        lured = IdentityProvider(settings.model_copy(update={"oidc_issuer": f"{oidc.address}/"}), http)
        with pytest.raises(LoginRefused, match="another issuer"):
            await lured.begin()
    finally:
        await http.aclose()


async def test_an_answer_that_names_another_issuer_is_refused(provider: IdentityProvider, log_in: LogIn) -> None:
    attempt, code = await log_in()
    with pytest.raises(LoginRefused, match="9207"):
        await provider.finish(attempt, code, issuer="https://evil.example")


async def test_a_provider_that_fails_is_unavailable_and_not_believed(
    provider: IdentityProvider, log_in: LogIn, oidc: OIDCProvider
) -> None:
    attempt, code = await log_in()
    oidc.knobs = OIDCKnobs(failing=True)
    with pytest.raises(Unavailable):
        await provider.finish(attempt, code)


async def test_a_provider_that_hangs_holds_only_a_few(
    provider: IdentityProvider, oidc: OIDCProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bulkhead: each who waits holds a database connection, so the fifth is told to come back."""
    oidc.knobs = OIDCKnobs(slow=2)
    waiting = [asyncio.create_task(provider.begin()) for _ in range(identity.MOST_AT_ONCE)]
    await asyncio.sleep(0.1)
    with pytest.raises(Unavailable, match="Too many"):
        await provider.begin()
    oidc.knobs = OIDCKnobs()
    assert len(await asyncio.gather(*waiting)) == identity.MOST_AT_ONCE
    assert (await provider.begin())[1]


async def test_time_is_ours_and_not_the_tokens(provider: IdentityProvider, log_in: LogIn) -> None:
    attempt, code = await log_in()
    clock.advance(timedelta(minutes=12))
    with pytest.raises(LoginRefused):
        await provider.finish(attempt, code)
