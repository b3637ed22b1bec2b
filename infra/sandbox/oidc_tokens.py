"""What the OpenID Connect stand-in hands out, and each way in which it can be told to hand out something wrong."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from joserfc import jwt
from joserfc.jwk import RSAKey
from pydantic import Field

from infra.sandbox.knobs import Knobs

TOKEN_SECONDS = 600


class OIDCKnobs(Knobs):
    """Each switch breaks one rule that a careful client checks."""

    wrong_nonce: bool = Field(False, description="ID token carries another nonce: a replayed login")
    wrong_audience: bool = Field(False, description="ID token is meant for another client")
    wrong_issuer: bool = Field(False, description="ID token claims another issuer")
    bad_signature: bool = Field(False, description="ID token is signed with a key nobody published")
    expired: bool = Field(False, description="ID token ran out an hour ago")
    unverified_email: bool = Field(False, description="email_verified is false, whatever the person chose")
    subject: str = Field("", description="Counts its people by this instead of a hash")
    failing: bool = Field(False, description="Every endpoint for programs answers 500")
    slow: float = Field(0, ge=0, le=300, description="Seconds before an endpoint for programs answers")


@dataclass(frozen=True, slots=True)
class Grant:
    """What a code or an access token stands for."""

    email: str
    verified: bool
    request: Mapping[str, str]
    expires_at: float

    def claims(self, knobs: OIDCKnobs) -> dict[str, Any]:
        subject = knobs.subject or hashlib.sha256(self.email.lower().encode()).hexdigest()[:24]
        verified = self.verified and not knobs.unverified_email
        name = self.email.partition("@")[0].replace(".", " ").title()
        return {"sub": subject, "email": self.email, "email_verified": verified, "name": name}


class Signer:
    """Signs ID tokens (RS256) with a key it publishes, or, when told to, with one it does not."""

    def __init__(self) -> None:
        self._key, self._unpublished_key = (RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}) for _ in range(2))
        self._kid = self._key.thumbprint()

    def public_keys(self) -> dict[str, Any]:
        """The JSON Web Key Set (RFC 7517)."""
        return {"keys": [self._key.as_dict(private=False) | {"kid": self._kid}]}

    def id_token(self, grant: Grant, issuer: str, client_id: str, knobs: OIDCKnobs) -> str:
        """OpenID Connect Core section 2, except for the rules the knobs break."""
        now = int(time.time())
        claims = grant.claims(knobs) | {
            "iss": f"{issuer}/imposter" if knobs.wrong_issuer else issuer,
            "aud": "another-client" if knobs.wrong_audience else client_id,
            "iat": now - 7200 if knobs.expired else now,
            "exp": now - 3600 if knobs.expired else now + TOKEN_SECONDS,
            "auth_time": now,
        }
        if "nonce" in grant.request:
            claims["nonce"] = "another-nonce" if knobs.wrong_nonce else grant.request["nonce"]
        return jwt.encode(
            {"alg": "RS256", "kid": self._kid}, claims, self._unpublished_key if knobs.bad_signature else self._key
        )
