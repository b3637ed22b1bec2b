"""Every form that the pages show, and every other address that takes a POST from a browser, attacked alike."""

from __future__ import annotations

import asyncio
from urllib.parse import quote, urlencode

import httpx
import pytest

from service.guardrails.rate_limits import policy_of
from service.guardrails.uploads.policy import upload_policy_of
from tests.abuse.forms import HIDDEN_BY_ALL, NUMERIC, Shown, as_read, crawl, pattern_of
from tests.abuse.judge import Sent
from tests.abuse.payloads import BROKEN, FAR_TOO_LONG, FOREIGN, MARK, NUMBERS, TEXTS
from tests.abuse.world import AS_A_PART, Crowd, World
from tests.architecture.conftest import Route
from tests.architecture.planted import Owner
from tests.architecture.test_routes import policies_of

KINDS = [("public", 12, 6), ("user", 26, 10), ("organization", 45, 28), ("staff", 30, 12)]
"""Whose pages; how many addresses take a POST there, and for how many of them some page shows the form."""
THE_END = "POST /organization/deletion"
"""Whoever may, does it with nothing typed: behind it everything is refused, and would seem to withstand."""
Fields = dict[str, str | list[str]]
FORM = "application/x-www-form-urlencoded"


class Attack:
    """One address, by somebody who may use it."""

    def __init__(self, world: World, route: Route, shown: Shown, crowd: Crowd, person: Owner) -> None:
        self.world, self.route, self.shown, self.crowd, self.person = world, route, shown, crowd, person
        self.stream = upload_policy_of(route.endpoint) is not None
        # A file's fields are read in its own wrapping.
        self.forged = (403, 415) if self.stream else (403,)

    async def send(
        self, what: str, changed: Fields | None = None, *, refuse: bool = True, strict: bool = False,
        only: tuple[int, ...] = (), path: str = "", csrf: str | None = "", content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:  # fmt: skip
        client = await self.crowd.next()
        fields: Fields = {name: value for name, value in self.shown.values.items() if name != "csrf"}
        fields |= changed or {}
        token = client.csrf if csrf == "" else csrf
        pairs = [("csrf", token)] if token is not None else []
        for name, value in fields.items():
            pairs += [(name, one) for one in (value if isinstance(value, list) else [value])]
        body = content if content is not None else encoded(pairs)
        sent = {"origin": client.origin, "content-type": FORM, **(headers or {})}
        answer = await client.http.post(path or self.shown.action, content=body, headers=sent)
        self.world.judge(answer, Sent(str(self.route), what, refuse, strict, only))
        return answer

    async def run(self, foreign: str) -> None:
        before = await self.world.before()
        await self.forgery()
        await self.shapes()
        if foreign != self.shown.action and "_id}" in self.route.path:
            await self.send("another organization's id", path=foreign, strict=True, only=(404,))
        if "{" in self.route.path:
            for what, text in {**TEXTS, **BROKEN}.items():
                await self.send(f"path is {what}", path=self.with_path(text))
        own = self.shown.own
        if own:
            await self.send("a field more", {"is_staff": "true"})
            for name in own:
                await self.send(f"{name} twice", {name: [self.shown.values.get(name, "1"), MARK]})
            for what, text in BROKEN.items():
                await self.send(f"every field is {what}", all_are(own, text))
        await self.world.unchanged(before, str(self.route))
        if self.shown.typed and not self.stream:
            await self.values()

    async def forgery(self) -> None:
        """What another site could make a browser send."""
        await self.send("no token", strict=True, csrf=None, only=self.forged)
        await self.send("a made-up token", strict=True, csrf="0" * 64, only=self.forged)
        await self.send("a token in another alphabet", strict=True, csrf="\u0660" * 64, only=self.forged)
        await self.send("from another site", strict=True, headers={"origin": FOREIGN}, only=self.forged)
        await self.send(
            "from another site, as the browser says",
            strict=True,
            headers={"sec-fetch-site": "cross-site"},
            only=self.forged,
        )
        await self.send("from a neighbour", strict=True, headers={"sec-fetch-site": "same-site"})
        await self.send("from nowhere", strict=True, headers={"origin": "null"})
        client = await self.crowd.next()
        stranger = await self.world.browser(await self.world.factory.person())
        if client.csrf and not self.crowd.nobody:
            await self.send("somebody else's token", strict=True, csrf=stranger.csrf)

    async def shapes(self) -> None:
        """What is no form, or not one of ours."""
        client = await self.crowd.next()
        token = {"x-csrf-token": client.csrf}
        self.crowd.left = max(self.crowd.left, 4)
        json = {"content-type": "application/json"}
        takes = bool(self.shown.own)
        await self.send("broken JSON", content=b'{"x": ', headers=json | token)
        if takes:
            await self.send("JSON", content=b'{"name": "x"}', headers=json | token)
            await self.send("XML", content=b"<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]><x>&y;</x>",
                            headers={"content-type": "application/xml"} | token)  # fmt: skip
        await self.send("far too many fields", content="&".join(f"f{n}=1" for n in range(3_000)).encode(), refuse=takes)

    async def values(self) -> None:
        """Every field that is typed into, with what nobody would type."""
        typed = self.shown.typed
        numeric = [name for name in typed if self.shown.kinds[name] in NUMERIC] or typed
        attacks = [(f"every text is {what}", typed, text) for what, text in TEXTS.items()]
        attacks += [(f"numbers are {what}", numeric, text) for what, text in NUMBERS.items()]
        for what, names, text in attacks:
            answer = await self.send(what, all_are(names, text), refuse=False)
            if answer.status_code == 303 and "_id}" in self.route.path:  # done: the next one needs another thing
                self.shown.action = await self.world.path(self.route, self.world.home, self.person)
        await self.send("texts are far too long", all_are(typed, FAR_TOO_LONG))
        fragment, markup = {"hx-request": "true"}, all_are(typed, TEXTS["HTML"])
        await self.send(AS_A_PART, markup, refuse=False, headers=fragment)
        token = {"x-csrf-token": (await self.crowd.next()).csrf}
        self.crowd.left = max(self.crowd.left, 1)
        await self.send("nothing at all", content=b"", headers=token, refuse=False)
        await self.send("fields are missing", {name: [] for name in typed}, refuse=False)
        await self.crowd.next()
        self.crowd.left = max(self.crowd.left, 2)  # both are the same person
        twins = [self.send("twice at once", all_are(typed, f"{MARK} 7"), refuse=False) for _ in range(2)]
        await asyncio.gather(*twins)

    def with_path(self, text: str) -> str:
        template, parts = self.route.path.split("/"), self.shown.action.split("?")[0].split("/")
        names = [at for at, part in enumerate(template) if part.startswith("{")]
        parts[names[-1]] = quote(text.encode("utf-8", "surrogatepass"), safe="")
        return "/".join(parts)


def all_are(names: list[str], text: str) -> Fields:
    return dict.fromkeys(names, text)


def encoded(pairs: list[tuple[str, str]]) -> bytes:
    return urlencode([(name, value.encode("utf-8", "surrogatepass")) for name, value in pairs]).encode()


async def shown_by(world: World, routes: list[Route], person: Owner, contexts: frozenset[str]) -> dict[str, Shown]:
    """The first form that leads to each address, on any page of this kind of person."""
    pages = [one for one in routes if one.method == "GET" and not one.is_api and policies_of(one)[0] in contexts]
    takers = [(pattern_of(one), one) for one in routes if one.method == "POST" and not one.is_api]
    client, found = await world.browser(person), dict[str, Shown]()
    for form, answer in await crawl(client, [await world.path(page, world.home, person) for page in pages]):
        action = form.action or answer.request.url.path
        for pattern, route in takers:
            if pattern.match(action.split("?")[0]):
                form.action = action
                found.setdefault(str(route), form)
                break
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "addresses", "shown"), KINDS)
async def test_every_form_withstands_whoever_fills_it(
    routes: list[Route], world: World, kind: str, addresses: int, shown: int
) -> None:
    contexts, public, staff = frozenset(kind.split()), kind == "public", kind == "staff"
    person = None if public else await world.somebody(staff=staff)
    forms = await shown_by(world, routes, person, contexts)
    attacked = [one for one in routes if one.method == "POST" and not one.is_api and policies_of(one)[0] in contexts]
    world.no_form = {str(route) for route in attacked} - set(forms)
    if staff:
        world.canaries = ()  # they see every organization's name
    for route in sorted(attacked, key=lambda one: str(one) == THE_END):
        if str(route) == THE_END:
            await read_afterwards(world, routes, contexts, staff=staff)
        crowd = Crowd(world, policy_of(route.endpoint, "POST"), nobody=public, staff=staff)
        form = forms.get(str(route)) or as_read(route, await world.path(route, world.home, person))
        if "{switch}" in route.path:  # turned by an attack, any other switch would stop the attacks
            form.action = await world.path(route, world.home, person)
        for name in HIDDEN_BY_ALL:
            form.kinds.pop(name, None)
        foreign = await world.path(route, world.elsewhere, None) if not staff else form.action
        await Attack(world, route, form, crowd, person).run(foreign)
    if kind != "organization":
        await read_afterwards(world, routes, contexts, staff=staff)
    assert not world.found, world.report()
    assert len(attacked) >= addresses, f"only {len(attacked)} addresses were attacked"
    seen = {str(route) for route in attacked} & set(forms)
    unseen = sorted({str(route) for route in attacked} - seen)
    assert len(seen) >= shown, f"the crawl found {len(seen)} forms, and none for {unseen}"
    assert world.sent >= 12 * addresses, f"only {world.sent} attacks"


async def read_afterwards(world: World, routes: list[Route], contexts: frozenset[str], *, staff: bool) -> None:
    """Every page once more: what was taken must not have become markup."""
    if "public" in contexts:
        return
    person = await world.somebody(staff=staff)
    client = await world.browser(person)
    for page in routes:
        if page.method == "GET" and not page.is_api and policies_of(page)[0] in contexts:
            answer = await client.get(await world.path(page, world.home, person))
            world.judge(answer, Sent(str(page), "read afterwards", refuse=False))
