"""The OpenID Connect stand-in speaks the real protocol, and breaks exactly the rule it is told to break."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pyotp
import pytest
import pytest_asyncio
from joserfc import jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet

from infra.sandbox.oidc import OIDCProvider
from infra.sandbox.oidc_tokens import OIDCKnobs

CALLBACK = "http://127.0.0.1:8000/login/oidc/callback"
Changes = dict[str, str | None]


@dataclass
class Client:
    """What a relying party keeps between its two steps."""

    http: httpx.AsyncClient
    provider: OIDCProvider
    verifier: str = field(default_factory=lambda: token_urlsafe(48))
    nonce: str = field(default_factory=lambda: token_urlsafe(16))
    state: str = field(default_factory=lambda: token_urlsafe(16))

    def request(self, **changes: str | None) -> dict[str, str]:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self.provider.client_id,
            "redirect_uri": CALLBACK,
            "scope": "openid email",
            "state": self.state,
            "nonce": self.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return {name: value for name, value in {**asked, **changes}.items() if value is not None}

    async def choose(self, email: str = "ada@example.com", verified: str = "yes") -> dict[str, str]:
        """Say who one is, and return the query of the callback."""
        return await self.submit({"email": email, "verified": verified})

    async def submit(self, changes: Changes) -> dict[str, str]:
        answer = await self.http.post("/authorize", data=self.request(**changes))
        assert answer.status_code == 303, answer.text
        location = urlsplit(answer.headers["location"])
        assert f"{location.scheme}://{location.netloc}{location.path}" == CALLBACK
        return {name: values[0] for name, values in parse_qs(location.query).items()}

    async def exchange(self, code: str, **changes: str) -> httpx.Response:
        data = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": self.verifier,
        }
        return await self.http.post(
            "/token", data=data | changes, auth=(self.provider.client_id, self.provider.client_secret)
        )

    async def claims(self, token: str) -> dict[str, Any]:
        keys = KeySet.import_key_set((await self.http.get("/jwks")).json())
        return dict(jwt.decode(token, keys, algorithms=["RS256"]).claims)

    async def id_token(self) -> str:
        answer = await self.exchange((await self.choose())["code"])
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id_token"])


@pytest_asyncio.fixture
async def client(provider: OIDCProvider) -> AsyncIterator[Client]:
    async with httpx.AsyncClient(base_url=provider.address, timeout=5) as http:
        yield Client(http, provider)


async def test_the_whole_code_flow(client: Client) -> None:
    discovery = (await client.http.get("/.well-known/openid-configuration")).json()
    assert discovery["issuer"] == client.provider.issuer
    page = await client.http.get("/authorize", params=client.request())
    assert page.status_code == 200
    assert "<script" not in page.text
    assert "form-action 'self' http://127.0.0.1:8000;" in page.headers["content-security-policy"]
    back = await client.choose()
    assert (back["state"], back["iss"]) == (client.state, client.provider.issuer)
    tokens = (await client.exchange(back["code"])).json()
    claims = await client.claims(tokens["id_token"])
    assert (claims["iss"], claims["aud"], claims["nonce"]) == (discovery["issuer"], "ballast", client.nonce)
    assert (claims["email"], claims["email_verified"]) == ("ada@example.com", True)
    assert claims["iat"] <= time.time() < claims["exp"]
    profile = await client.http.get(
        discovery["userinfo_endpoint"], headers={"Authorization": f"Bearer {tokens['access_token']}"}
    )
    assert profile.json()["sub"] == claims["sub"]


async def test_a_person_is_the_same_subject_each_time_and_another_person_another(client: Client) -> None:
    subjects = []
    for email in ("ada@example.com", "ADA@example.com", "bob@example.com"):
        tokens = (await client.exchange((await client.choose(email))["code"])).json()
        subjects.append((await client.claims(tokens["id_token"]))["sub"])
    assert subjects[0] == subjects[1] != subjects[2]


async def test_demo_logins_are_offered_by_name(tmp_path: Path) -> None:
    file = tmp_path / "logins.json"
    with OIDCProvider(identities=file) as provider, httpx.Client(base_url=provider.address) as http:
        query = Client(httpx.AsyncClient(), provider).request()
        assert "owner@acme.example" not in http.get("/authorize", params=query).text
        file.write_text(json.dumps({"logins": [{"role": "owner", "email": "owner@acme.example", "password": "x"}]}))
        assert "owner@acme.example" in http.get("/authorize", params=query).text


async def test_the_second_factor_of_the_demo_stands_on_a_page(tmp_path: Path) -> None:
    file, key = tmp_path / "logins.json", pyotp.random_base32(32)
    with OIDCProvider(identities=file) as provider, httpx.Client(base_url=provider.address) as http:
        assert "still being planted" in http.get("/authenticator").text
        file.write_text(
            json.dumps({"logins": [{"email": "a@x.example"}, {"email": "b@x.example", "authenticator_key": key}]})
        )
        shown = http.get("/authenticator").text
    assert "a@x.example" not in shown
    code = "".join(shown.split("<code>")[1].split("</code>")[0].split())
    assert pyotp.TOTP(key).verify(code, valid_window=1)


@pytest.mark.parametrize(
    "changes", [{"client_id": "stranger"}, {"redirect_uri": "javascript:alert(1)"}, {"redirect_uri": None}]
)
async def test_an_unknown_client_is_told_so_and_sent_nowhere(client: Client, changes: Changes) -> None:
    answer = await client.http.get("/authorize", params=client.request(**changes))
    assert answer.status_code == 400
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    "changes",
    [{"response_type": "token"}, {"scope": "email"}, {"code_challenge": None}, {"code_challenge_method": "plain"}],
)
async def test_a_broken_request_goes_back_with_its_error(client: Client, changes: Changes) -> None:
    back = await client.submit({"email": "ada@example.com", **changes})
    assert back["error"] == "invalid_request"
    assert back["state"] == client.state
    assert "code" not in back


async def test_a_person_may_decline(client: Client) -> None:
    assert (await client.submit({"deny": "yes"}))["error"] == "access_denied"
    assert (await client.submit({"prompt": "none"}))["error"] == "login_required"


async def test_a_code_works_once(client: Client) -> None:
    code = (await client.choose())["code"]
    assert (await client.exchange(code)).status_code == 200
    assert (await client.exchange(code)).json() == {"error": "invalid_grant"}


@pytest.mark.parametrize(
    "changes", [{"code_verifier": "x" * 43}, {"redirect_uri": "http://127.0.0.1:8000/other"}, {"code": "guess"}]
)
async def test_a_code_is_bound_to_its_request(client: Client, changes: dict[str, str]) -> None:
    answer = await client.exchange(**({"code": (await client.choose())["code"]} | changes))
    assert (answer.status_code, answer.json()) == (400, {"error": "invalid_grant"})


async def test_a_client_must_prove_itself(client: Client) -> None:
    data = {"grant_type": "authorization_code", "code": "x", "redirect_uri": CALLBACK}
    provider = client.provider
    wrong: list[Any] = [None, (provider.client_id, "wrong"), ("stranger", provider.client_secret)]
    for auth in wrong:
        answer = await client.http.post("/token", data=data, auth=auth)
        assert (answer.status_code, answer.json()) == (401, {"error": "invalid_client"})
    assert (await client.http.post("/token", data=data, headers={"Authorization": "Basic %%%"})).status_code == 401
    data |= {"client_id": provider.client_id, "client_secret": provider.client_secret}
    assert (await client.http.post("/token", data=data)).json() == {"error": "invalid_grant"}, "client_secret_post"


async def test_a_code_is_not_an_access_token(client: Client) -> None:
    code = (await client.choose())["code"]
    for token in (code, "guess"):
        answer = await client.http.get("/userinfo", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401


async def test_signing_out_returns_to_the_application(client: Client) -> None:
    target = "http://127.0.0.1:8000/bye"
    answer = await client.http.get(f"/end_session?post_logout_redirect_uri={quote(target)}")
    assert (answer.status_code, answer.headers["location"]) == (303, target)
    assert "Signed out" in (await client.http.get("/end_session")).text


@pytest.mark.parametrize(
    ("knob", "claim"),
    [
        ("wrong_nonce", "nonce"),
        ("wrong_audience", "aud"),
        ("wrong_issuer", "iss"),
        ("expired", "exp"),
        ("unverified_email", "email_verified"),
    ],
)
async def test_a_knob_breaks_its_claim_and_no_other(client: Client, knob: str, claim: str) -> None:
    good = await client.claims(await client.id_token())
    assert (await client.http.post("/api/knobs", json={knob: True})).status_code == 200
    bad = await client.claims(await client.id_token())
    moving = {"iat", "auth_time", "exp"}
    assert {name for name in good if name not in moving and good[name] != bad[name]} == {claim} - moving
    assert (bad["exp"] < time.time()) == (claim == "exp")


async def test_a_bad_signature_verifies_with_no_published_key(client: Client) -> None:
    client.provider.knobs = OIDCKnobs(bad_signature=True)
    with pytest.raises(BadSignatureError):
        await client.claims(await client.id_token())


async def test_failing_and_slow_hit_programs_and_spare_people(client: Client) -> None:
    client.provider.knobs = OIDCKnobs(failing=True, slow=0.2)
    for method, path in [("GET", "/.well-known/openid-configuration"), ("GET", "/jwks"), ("POST", "/token")]:
        started = time.monotonic()
        assert (await client.http.request(method, path)).status_code == 500
        assert time.monotonic() - started >= 0.2
    assert (await client.http.get("/authorize", params=client.request())).status_code == 200
    assert (await client.http.get("/")).status_code == 200
