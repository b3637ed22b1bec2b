"""An OpenID Connect provider for demos and tests: pick who you are, and tell it which rule to break.

OpenID Connect Core 1.0 code flow with PKCE (RFC 7636, S256 only) and `iss` in the answer (RFC 9207).
In a test: `with OIDCProvider() as provider: ...`; as a process: `python -m infra.sandbox.oidc`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlencode, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from infra.sandbox.authenticator import authenticator_route
from infra.sandbox.knobs import knob_routes
from infra.sandbox.oidc_tokens import TOKEN_SECONDS, Grant, OIDCKnobs, Signer
from infra.sandbox.pages import page, static_files
from infra.sandbox.ports import HOST
from infra.sandbox.standin import StandIn, run_until_told

CODE_SECONDS = 60
STRANGERS = [{"role": "stranger", "email": "newcomer@elsewhere.example"}]
Endpoint = Callable[[Request], Awaitable[Response]]


class OIDCProvider(StandIn):
    """`issuer`, `client_id` and `client_secret` are what a client is configured with; `knobs` what goes wrong."""

    name = "OpenID Connect provider"

    def __init__(
        self,
        port: int = 0,
        host: str = HOST,
        *,
        client_id: str = "ballast",
        client_secret: str = "ballast-secret",  # noqa: S107 - a stand-in keeps no secret
        issuer: str = "",
        identities: Path | None = None,
    ) -> None:
        super().__init__(port, host)
        self.issuer = issuer or self.address
        self.client_id, self.client_secret = client_id, client_secret
        self.knobs = OIDCKnobs()
        self._identities = identities
        self._signer = Signer()
        self._grants: dict[str, Grant] = {}

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._faulty(self._discovery)),
                Route("/jwks", self._faulty(self._jwks)),
                Route("/authorize", self._authorize, methods=["GET", "POST"]),
                Route("/token", self._faulty(self._token), methods=["POST"]),
                Route("/userinfo", self._faulty(self._userinfo), methods=["GET", "POST"]),
                Route("/end_session", self._end_session),
                Route("/", self._home),
                authenticator_route(self._identities),
                *knob_routes(self),
                static_files(),
            ]
        )

    def _faulty(self, endpoint: Endpoint) -> Endpoint:
        async def with_faults(request: Request) -> Response:
            await asyncio.sleep(self.knobs.slow)
            if self.knobs.failing:
                return JSONResponse({"error": "server_error"}, status_code=500)
            return await endpoint(request)

        return with_faults

    async def _home(self, request: Request) -> Response:
        return page(request, "oidc_home.html", issuer=self.issuer, client_id=self.client_id)

    async def _discovery(self, request: Request) -> Response:
        endpoints = {
            "authorization": "authorize",
            "token": "token",
            "userinfo": "userinfo",
            "end_session": "end_session",
        }
        return JSONResponse(
            {
                "issuer": self.issuer,
                **{f"{name}_endpoint": f"{self.issuer}/{path}" for name, path in endpoints.items()},
                "jwks_uri": f"{self.issuer}/jwks",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
                "scopes_supported": ["openid", "email", "profile"],
                "claims_supported": ["sub", "email", "email_verified", "name"],
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def _jwks(self, request: Request) -> Response:
        return JSONResponse(self._signer.public_keys())

    async def _authorize(self, request: Request) -> Response:
        """Ask the person who they are, then send them back with a code."""
        form = {k: str(v) for k, v in (await request.form()).items()} if request.method == "POST" else {}
        asked = form or dict(request.query_params)
        target = urlsplit(asked.get("redirect_uri", ""))
        # Nothing may be sent to an address before it is known to be our client's (RFC 6749 section 4.1.2.1).
        if asked.get("client_id") != self.client_id or target.scheme not in ("http", "https") or not target.hostname:
            problem = "client_id is not ours, or redirect_uri is not an absolute http(s) address."
            return page(request, "notice.html", title="This login request is broken", text=problem, status_code=400)
        if problem := _broken_rule(asked):
            return self._back(asked, error="invalid_request", error_description=problem)
        if asked.get("prompt") == "none":
            return self._back(asked, error="login_required")
        if form.get("deny"):
            return self._back(asked, error="access_denied")
        if form.get("email"):
            grant = Grant(form["email"].strip(), form.get("verified") == "yes", asked, time.time() + CODE_SECONDS)
            return self._back(asked, code=self._remember(grant))
        hidden = {name: value for name, value in asked.items() if name not in ("email", "verified", "deny")}
        origin = f"{target.scheme}://{target.netloc}"
        return page(
            request,
            "authorize.html",
            hidden=hidden,
            people=self._people(),
            client=origin,
            form_action=f"'self' {origin}",
        )

    def _back(self, asked: Mapping[str, str], **answer: str) -> Response:
        uri = asked["redirect_uri"]
        answer |= {"state": asked["state"]} if "state" in asked else {}
        query = urlencode(answer | {"iss": self.issuer})
        return RedirectResponse(f"{uri}{'&' if '?' in uri else '?'}{query}", status_code=303)

    async def _token(self, request: Request) -> Response:
        form = {k: str(v) for k, v in (await request.form()).items()}
        if not self._is_client(request, form):
            return JSONResponse({"error": "invalid_client"}, status_code=401, headers={"WWW-Authenticate": "Basic"})
        if form.get("grant_type") != "authorization_code":
            return JSONResponse({"error": "unsupported_grant_type"}, status_code=400)
        grant = self._grants.pop(form.get("code", ""), None)  # popped: a code works once
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if (
            grant is None
            or grant.expires_at < time.time()
            or grant.request["redirect_uri"] != form.get("redirect_uri")
            or not hmac.compare_digest(challenge, grant.request["code_challenge"])
        ):
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        access_token = self._remember(Grant(grant.email, grant.verified, {}, time.time() + TOKEN_SECONDS))
        answer = {"access_token": access_token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS}
        return JSONResponse(
            answer | {"id_token": self._signer.id_token(grant, self.issuer, self.client_id, self.knobs)},
            headers={"Cache-Control": "no-store"},
        )

    async def _userinfo(self, request: Request) -> Response:
        grant = self._grants.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if grant is None or grant.request or grant.expires_at < time.time():
            return JSONResponse({"error": "invalid_token"}, status_code=401, headers={"WWW-Authenticate": "Bearer"})
        return JSONResponse(grant.claims(self.knobs))

    async def _end_session(self, request: Request) -> Response:
        if target := request.query_params.get("post_logout_redirect_uri"):
            return RedirectResponse(target, status_code=303)
        return page(request, "notice.html", title="Signed out", text="Your session at the demo provider has ended.")

    def _is_client(self, request: Request, form: Mapping[str, str]) -> bool:
        name, secret = form.get("client_id", ""), form.get("client_secret", "")
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                name, _, secret = map(unquote, base64.b64decode(encoded, validate=True).decode().partition(":"))
            except ValueError:
                return False
        return name == self.client_id and hmac.compare_digest(secret.encode(), self.client_secret.encode())

    def _remember(self, grant: Grant) -> str:
        now = time.time()
        self._grants = {key: one for key, one in self._grants.items() if one.expires_at > now}
        handle = secrets.token_urlsafe(24)
        self._grants[handle] = grant
        return handle

    def _people(self) -> list[dict[str, str]]:
        """The demo logins that the seed wrote down, if it did, and somebody the service has never seen."""
        if self._identities is None or not self._identities.exists():
            return STRANGERS
        return [*json.loads(self._identities.read_text())["logins"], *STRANGERS]


def _broken_rule(asked: Mapping[str, str]) -> str:
    if asked.get("response_type") != "code":
        return "response_type must be code"
    if "openid" not in asked.get("scope", "").split():
        return "scope must contain openid"
    if asked.get("code_challenge_method") != "S256" or not asked.get("code_challenge"):
        return "PKCE with code_challenge_method S256 is required"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m infra.sandbox.oidc", description=__doc__)
    parser.add_argument("--host", default=HOST, help="address to listen on; 0.0.0.0 in a container")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--issuer", default="", help="public address, where it differs from host and port")
    given = parser.parse_args()
    run_until_told(lambda: [OIDCProvider(given.port, given.host, issuer=given.issuer)])


if __name__ == "__main__":
    main()
