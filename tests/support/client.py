"""A person (or a program) talking to the service over real HTTP: keeps cookies, reads forms, sends the tokens back."""

from __future__ import annotations

import html
import re
from random import randrange
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx

HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')


class Client:
    """`async with Client(url) as person:`; redirects are not followed unless asked, so that tests see each answer."""

    def __init__(self, url: str, *, csrf: str = "", cookies: dict[str, str] | None = None, key: str = "") -> None:
        self.csrf, self.key = csrf, key
        # Each client has an address of its own, as people do; the tests' server trusts the loopback proxy.
        self.address = f"10.{randrange(256)}.{randrange(256)}.{randrange(1, 255)}"
        headers = {"accept": "text/html", "x-forwarded-for": self.address}
        # Plain http on loopback: reading the certificate store would cost each client a tenth of a second, and looking
        # for proxies in the environment half a millisecond.
        self.http = httpx.AsyncClient(base_url=url, timeout=60, headers=headers, verify=False, trust_env=False)
        for name, value in (cookies or {}).items():
            # With its domain, or the server's next cookie of that name would be a second one beside it.
            self.http.cookies.set(name, value, domain=self.http.base_url.host)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.aclose()

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.http.get(path, **options)

    async def page(self, path: str) -> str:
        """The text of a page that must be there."""
        answer = await self.http.get(path, follow_redirects=True)
        assert answer.status_code == 200, f"GET {path}: {answer.status_code}\n{answer.text[:2000]}"
        return answer.text

    async def submit(self, path: str, *, page: str | None = None, **fields: Any) -> httpx.Response:
        """Open the page that holds the form, then send it: hidden fields come from the page, as a browser would."""
        shown = await self.http.get(page or path, follow_redirects=True)
        hidden = {html.unescape(name): html.unescape(value) for name, value in HIDDEN.findall(shown.text)}
        assert "csrf" in hidden, f"no form on {page or path}: {shown.status_code}\n{shown.text[:2000]}"
        sent = {"csrf": hidden["csrf"], "schema_version": hidden.get("schema_version", ""), **fields}
        return await self.post(path, **sent)

    async def post(self, path: str, **fields: Any) -> httpx.Response:
        return await self.http.post(path, data=fields, headers={"origin": self.origin})

    @property
    def bearer(self) -> dict[str, str]:
        """The header of this person's API key: of their organization, with their role and all scopes."""
        assert self.key, "only somebody with a role in an organization has a key"
        return {"authorization": f"Bearer {self.key}"}

    async def api(self, method: str, path: str, json: Any = None, **headers: str) -> httpx.Response:
        """Call the JSON API as this person's program does."""
        sent = {"accept": "application/json", **self.bearer, **headers}
        if method == "POST":
            sent.setdefault("idempotency-key", uuid4().hex)
        return await self.http.request(method, f"/api/v1{path}", json=json, headers=sent)

    @property
    def origin(self) -> str:
        url = self.http.base_url
        return f"{url.scheme}://{url.netloc.decode()}"
