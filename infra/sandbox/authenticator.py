"""The phone of the demo's staff: shows the code of now, so that nobody needs an authenticator app to look around."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pyotp
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.sandbox.pages import page

PERIOD_SECONDS = 30


def authenticator_route(identities: Path | None) -> Route:
    """`identities` is the file of demo logins; those with a key of their own get a code."""

    async def show(request: Request) -> Response:
        known = json.loads(identities.read_text())["logins"] if identities and identities.exists() else []
        codes = [
            (one["email"], pyotp.TOTP(one["authenticator_key"], interval=PERIOD_SECONDS).now())
            for one in known
            if "authenticator_key" in one
        ]
        left = PERIOD_SECONDS - int(time.time()) % PERIOD_SECONDS
        return page(request, "authenticator.html", codes=codes, left=left)

    return Route("/authenticator", show)
