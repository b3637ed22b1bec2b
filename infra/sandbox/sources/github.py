"""GitHub's REST API for one resource, a repository: ETags, rate-limit headers and its two ways to say "too many".

https://docs.github.com/en/rest/repos/repos#get-a-repository
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.sandbox.ports import HOST
from infra.sandbox.sources.faults import BusinessApi

TOKEN = "ghp_ballast_sandbox"
DOCS = "https://docs.github.com/rest/repos/repos#get-a-repository"
REPOSITORIES = {"northwind/storefront": (1_240, 37), "northwind/warehouse": (86, 12), "lighthouse/beacon": (412, 9)}
PRIVATE = "northwind/secret-plans"
HOUR = 3_600
LIMITS = {False: 60, True: 5_000}
"""Requests an hour, without and with a token."""


class GitHubApi(BusinessApi):
    name = "GitHub stand-in"
    examples = (*((one, "a public repository") for one in REPOSITORIES), (PRIVATE, f"private; token {TOKEN}"))

    def __init__(self, port: int = 0, host: str = HOST) -> None:
        super().__init__(port, host)
        self.repositories = dict(REPOSITORIES)
        self.used = {False: 0, True: 0}

    def routes(self) -> list[Route]:
        return [Route("/repos/{owner}/{repository}", self.faulty(self._repository))]

    def bad_key(self) -> Response:
        return _refusal(401, "Bad credentials", "https://docs.github.com/rest")

    def limited(self, seconds: int) -> Response:
        """The secondary limit; the primary one comes as 403 with nothing remaining."""
        text = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
        return _refusal(429, text, headers={"Retry-After": str(seconds)})

    async def _repository(self, request: Request) -> Response:
        given = request.headers.get("authorization", "")
        if given and given != f"Bearer {TOKEN}":
            return self.bad_key()
        signed, now = bool(given), time.time()
        name = f"{request.path_params['owner']}/{request.path_params['repository']}".lower()
        body = self._body(name, signed, now)
        etag = f'W/"{hashlib.sha256(json.dumps(body).encode()).hexdigest()}"'
        same = body is not None and request.headers.get("if-none-match") == etag
        if not same:  # a 304 is free
            self.used[signed] += 1
        headers = {
            "x-ratelimit-limit": str(LIMITS[signed]),
            "x-ratelimit-remaining": str(max(0, LIMITS[signed] - self.used[signed])),
            "x-ratelimit-used": str(self.used[signed]),
            "x-ratelimit-reset": str(int(now) // HOUR * HOUR + HOUR),
            "x-ratelimit-resource": "core",
        }
        if self.used[signed] > LIMITS[signed]:
            return _refusal(403, "API rate limit exceeded for 203.0.113.7.", headers=headers)
        if body is None:
            return _refusal(404, "Not Found", headers=headers)
        headers |= {"etag": etag, "cache-control": "public, max-age=60, s-maxage=60"}
        return Response(status_code=304, headers=headers) if same else JSONResponse(body, headers=headers)

    def _body(self, name: str, signed: bool, now: float) -> dict[str, Any] | None:
        """None for what this caller may not see: GitHub does not tell that from what is not there."""
        stars, issues = self.repositories.get(name) or ((5, 2) if name == PRIVATE and signed else (0, 0))
        if not stars:
            return None
        hours = int(now // HOUR)
        return {
            "id": 1_296_269 + stars,
            "name": name.split("/")[1],
            "full_name": name,
            "private": name == PRIVATE,
            "owner": {"login": name.split("/")[0], "type": "Organization"},
            "stargazers_count": stars + hours % 168 // 4,
            "watchers_count": stars,
            "forks_count": stars // 9,
            "open_issues_count": issues + round(3 * math.sin(hours / 7)),
            "subscribers_count": stars // 20,
            "default_branch": "main",
        }


def _refusal(status: int, text: str, docs: str = DOCS, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(
        {"message": text, "documentation_url": docs, "status": str(status)}, status_code=status, headers=headers
    )
