"""Addresses that carry their own permission: AWS Signature Version 4 in the query (docs.aws.amazon.com/AmazonS3,
"Authenticating Requests: Using Query Parameters").

The library for objects signs neither the names of downloads nor what concerns versions; both are needed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from service.core import clock

ALGORITHM = "AWS4-HMAC-SHA256"
LONGEST = 300


@dataclass(frozen=True, slots=True, repr=False)
class Signer:
    access_key: str
    secret_key: str
    region: str

    def address(self, method: str, url: str, query: Mapping[str, str], seconds: int) -> str:
        """`url` (its path is encoded already) with the query and a signature that holds for so many seconds."""
        if not 0 < seconds <= LONGEST:
            raise ValueError(f"a signed address holds for at most {LONGEST} seconds")
        parts, moment = urlsplit(url), clock.now().strftime("%Y%m%dT%H%M%SZ")
        scope = f"{moment[:8]}/{self.region}/s3/aws4_request"
        signed = {
            **query,
            "X-Amz-Algorithm": ALGORITHM,
            "X-Amz-Credential": f"{self.access_key}/{scope}",
            "X-Amz-Date": moment,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": "host",
        }
        encoded = "&".join(
            sorted(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in signed.items())
        )
        canonical = f"{method}\n{parts.path or '/'}\n{encoded}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
        to_sign = f"{ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{self.secret_key}".encode()
        for word in (*scope.split("/"), to_sign):
            key = hmac.digest(key, word.encode(), "sha256")
        return f"{parts.scheme}://{parts.netloc}{parts.path or '/'}?{encoded}&X-Amz-Signature={key.hex()}"
