"""Logging in with another provider: every rule of the protocol, and no way into an account that is not yours."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest

from infra.sandbox.oidc import OIDCProvider
from infra.sandbox.oidc_tokens import OIDCKnobs, Signer
from service.core import clock
from service.core.context import Resources
from service.guardrails import sessions
from tests.features.accounts.conftest import OTHER_PASSWORD, PASSWORD, LogIn, Post, can_enter, is_logged_in, user_row
from tests.features.accounts.test_second_factor import turn_on
from tests.features.accounts.test_sign_up import csrf, new_address, sign_up
from tests.support.client import HIDDEN, Client
from tests.support.factories import Person


@pytest.fixture(autouse=True)
def healthy(oidc: OIDCProvider) -> Any:
    yield
    oidc.knobs = OIDCKnobs()


@pytest.fixture
async def elsewhere() -> AsyncIterator[httpx.AsyncClient]:
    """The person's browser at the provider."""
    async with httpx.AsyncClient() as client:
        yield client


class There:
    """What a person does at the provider."""

    def __init__(self, browser: httpx.AsyncClient) -> None:
        self._browser = browser

    async def log_in(self, address: str, email: str, *, verified: bool = True) -> str:
        """Log in there; the address that the provider then sends the browser to."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        form = asked | {"email": email} | ({"verified": "yes"} if verified else {})
        answer = await self._browser.post(address.partition("?")[0], data=form)
        return answer.headers["location"]


@pytest.fixture
def there(elsewhere: httpx.AsyncClient) -> There:
    return There(elsewhere)


async def leave(client: Client, path: str = "/login/provider", page: str = "/login") -> str:
    answer = await client.submit(path, page=page)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


async def arrive(client: Client, back: str) -> httpx.Response:
    """Come back and press the button of the page in between."""
    shown = await client.get(back, follow_redirects=True)
    to = re.search(r'action="([^"]+)" class="form" data-submit-now', shown.text)
    if to is None:
        return shown
    return await client.post(to[1], **dict(HIDDEN.findall(shown.text)))


async def through(client: Client, there: There, email: str, *, verified: bool = True) -> httpx.Response:
    return await arrive(client, await there.log_in(await leave(client), email, verified=verified))


async def told(client: Client) -> str:
    """The message that the next page shows."""
    return await client.page("/login")


async def test_a_new_person_is_in_and_comes_again(browser: Callable[[], Client], there: There, superuser: Any) -> None:
    email, client, later = new_address(), browser(), browser()
    answer = await through(client, there, email)
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard")
    assert await can_enter(client)
    row = await user_row(superuser, email)
    assert row["email_verified_at"] is not None
    assert row["password_hash"] is None
    assert (await through(later, there, email)).status_code == 303
    assert await superuser.fetchval("SELECT count(*) FROM external_identities WHERE user_id = $1", row["id"]) == 1


async def test_what_the_provider_hands_us_reaches_no_browser(
    visitor: Client, there: There, superuser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tokens end here: none is in an answer or a cookie, and none is kept."""
    handed, answers, genuine = [], [], Signer.id_token

    def noted(self: Signer, *arguments: Any) -> str:
        handed.append(genuine(self, *arguments))
        return handed[-1]

    async def kept(answer: httpx.Response) -> None:
        await answer.aread()
        answers.append(f"{answer.headers} {answer.text}")

    monkeypatch.setattr(Signer, "id_token", noted)
    visitor.http.event_hooks["response"].append(kept)
    email = new_address()
    assert (await through(visitor, there, email)).headers["location"] == "/dashboard"
    await visitor.page("/account/security")
    assert len(handed) == 1
    assert len(answers) >= 4
    secret = handed[0].rpartition(".")[2][:40]
    assert not [answer for answer in answers if secret in answer]
    rows = await superuser.fetch(
        "SELECT to_jsonb(kept)::text AS line FROM external_identities kept JOIN users ON users.id = kept.user_id"
        " WHERE users.email = $1", email,
    )  # fmt: skip
    assert [secret in row["line"] or "token" in row["line"] for row in rows] == [False]


async def test_the_request_carries_state_nonce_and_pkce(visitor: Client, oidc: OIDCProvider, server: Any) -> None:
    asked = parse_qs(urlsplit(await leave(visitor)).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"] == [f"{server.url}/login/provider/return"]
    assert all(len(asked[name][0]) >= 43 for name in ("state", "nonce", "code_challenge"))
    again = parse_qs(urlsplit(await leave(visitor)).query)
    assert all(asked[name] != again[name] for name in ("state", "nonce", "code_challenge"))


async def test_coming_back_changes_nothing_before_the_click(visitor: Client, there: There, superuser: Any) -> None:
    email = new_address()
    back = await there.log_in(await leave(visitor), email)
    for _ in range(3):
        shown = await visitor.get(back)
        assert shown.status_code == 200
        assert shown.headers["referrer-policy"] == "no-referrer"
    assert await superuser.fetchval("SELECT count(*) FROM users WHERE email = $1", email) == 0
    assert not is_logged_in(visitor)


async def test_an_account_that_exists_is_never_entered_by_its_address(
    visitor: Client, there: There, person: Person, superuser: Any
) -> None:
    answer = await through(visitor, there, person.email)
    assert answer.headers["location"] == "/login"
    assert "Log in to it with its password" in await told(visitor)
    assert not is_logged_in(visitor)
    assert await superuser.fetchval("SELECT count(*) FROM external_identities WHERE user_id = $1", person.id) == 0


async def test_connect_from_inside_then_log_in_with_it_then_disconnect(
    browser: Callable[[], Client], there: There, person: Person, logged_in: LogIn, post: Post
) -> None:
    owner, fresh = await logged_in(person), browser()
    outside = new_address()
    done = await arrive(
        owner, await there.log_in(await leave(owner, "/account/provider", "/account/security"), outside)
    )
    assert done.headers["location"] == "/account/security"
    page = await owner.page("/account/security")
    assert "Connected" in page
    assert "Your account was changed" in await post.subjects(person.email, count=1)
    assert (await through(fresh, there, outside)).headers["location"] == "/dashboard"
    assert person.email in await fresh.page("/account")
    end = re.search(r"/account/identities/[0-9a-f-]{36}/end", page)
    assert end
    assert (await owner.submit(end[0], page="/account/security")).status_code == 303
    later = browser()
    await through(later, there, outside)
    assert person.email not in await later.page("/account"), "a login of its own by now"


async def test_disconnecting_ends_the_sessions_that_came_through_it(
    browser: Callable[[], Client], there: There, person: Person, logged_in: LogIn
) -> None:
    owner, thief, outside = await logged_in(person), browser(), new_address()
    await arrive(owner, await there.log_in(await leave(owner, "/account/provider", "/account/security"), outside))
    await through(thief, there, outside)
    assert await can_enter(thief)
    end = re.search(r"/account/identities/[0-9a-f-]{36}/end", await owner.page("/account/security"))
    assert end
    await owner.submit(end[0], page="/account/security")
    assert await can_enter(owner)
    assert not await can_enter(thief)


async def test_one_login_there_belongs_to_one_account_here(
    browser: Callable[[], Client], there: There, person: Person, logged_in: LogIn
) -> None:
    outside = new_address()
    await through(browser(), there, outside)
    owner = await logged_in(person)
    await arrive(owner, await there.log_in(await leave(owner, "/account/provider", "/account/security"), outside))
    assert "connected to another account" in await owner.page("/account/security")


async def test_the_only_way_in_cannot_be_cut_off(visitor: Client, there: There) -> None:
    await through(visitor, there, new_address())
    page = await visitor.page("/account/security")
    end = re.search(r"/account/identities/[0-9a-f-]{36}/end", page)
    assert end
    await visitor.submit(end[0], page="/account/security")
    assert "your only way in" in await visitor.page("/account/security")


async def test_a_squatters_sign_up_gives_way_and_its_password_is_gone(
    browser: Callable[[], Client], there: There, post: Post, superuser: Any
) -> None:
    """Pre-hijacking: Mallory signs up with Vera's address and waits for Vera to come through the provider."""
    email, mallory, vera = new_address(), browser(), browser()
    await sign_up(mallory, email, OTHER_PASSWORD)
    link = await post.link(email, "verify")
    assert (await through(vera, there, email)).headers["location"] == "/dashboard"
    assert (await user_row(superuser, email))["password_hash"] is None
    assert (await mallory.submit("/login", email=email, password=OTHER_PASSWORD)).status_code == 422
    assert (await mallory.post(link, csrf=await csrf(mallory), password=OTHER_PASSWORD)).status_code == 422
    assert not is_logged_in(mallory)


@pytest.mark.parametrize("by_provider", [True, False])
async def test_an_address_the_provider_does_not_vouch_for_opens_nothing(
    visitor: Client, there: There, oidc: OIDCProvider, superuser: Any, by_provider: bool
) -> None:
    email = new_address()
    oidc.knobs = OIDCKnobs(unverified_email=by_provider)
    answer = await through(visitor, there, email, verified=by_provider)
    assert answer.headers["location"] == "/login"
    assert "does not vouch" in await told(visitor)
    assert await superuser.fetchval("SELECT count(*) FROM users WHERE email = $1", email) == 0


@pytest.mark.parametrize("rule", ["wrong_nonce", "wrong_audience", "wrong_issuer", "bad_signature", "expired"])
async def test_a_provider_that_breaks_a_rule_is_not_believed(
    visitor: Client, there: There, oidc: OIDCProvider, superuser: Any, rule: str
) -> None:
    email = new_address()
    back = await there.log_in(await leave(visitor), email)
    oidc.knobs = OIDCKnobs(**{rule: True})
    answer = await arrive(visitor, back)
    assert answer.headers["location"] == "/login"
    assert "could not be trusted" in await told(visitor)
    assert not is_logged_in(visitor)
    assert await superuser.fetchval("SELECT count(*) FROM users WHERE email = $1", email) == 0


async def test_an_answer_belongs_to_the_browser_that_asked(browser: Callable[[], Client], there: There) -> None:
    """Login CSRF: Mallory's answer in Vera's browser, with and without an attempt of Vera's own under way."""
    mallory, vera = browser(), browser()
    back = await there.log_in(await leave(mallory), new_address())
    for _ in range(2):
        assert (await arrive(vera, back)).url.path == "/login"
        assert not is_logged_in(vera)
        await leave(vera)
    query = {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}
    forged = await vera.post("/login/provider/finish", csrf=await csrf(vera), **query)
    assert forged.headers["location"] == "/login"
    assert not is_logged_in(vera)


async def test_an_answer_works_once(browser: Callable[[], Client], there: There) -> None:
    client = browser()
    back = await there.log_in(await leave(client), new_address())
    shown = await client.page(back)
    fields = dict(HIDDEN.findall(shown))
    assert (await client.post("/login/provider/finish", **fields)).headers["location"] == "/dashboard"
    again = await client.post("/login/provider/finish", **fields)
    assert again.headers["location"] == "/login"
    assert (await client.get(back)).headers["location"] == "/login", "the attempt itself is used up, too"


async def test_another_issuers_answer_is_refused(visitor: Client, there: There) -> None:
    """Mix-up (RFC 9207): the answer says who made it."""
    back = await there.log_in(await leave(visitor), new_address())
    answer = await arrive(visitor, back.partition("&iss=")[0] + "&iss=https://evil.example")
    assert answer.headers["location"] == "/login"
    assert not is_logged_in(visitor)


async def test_an_answer_for_connecting_is_not_taken_for_a_login(
    browser: Callable[[], Client], there: There, person: Person, logged_in: LogIn
) -> None:
    owner = await logged_in(person)
    back = await there.log_in(await leave(owner, "/account/provider", "/account/security"), new_address())
    query = {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}
    answer = await owner.post("/login/provider/finish", csrf=await csrf(owner), **query)
    assert answer.headers["location"] == "/login"


async def test_the_second_factor_is_still_asked(browser: Callable[[], Client], there: There) -> None:
    email, client, later = new_address(), browser(), browser()
    await through(client, there, email)
    phone, _ = await turn_on(client)
    answer = await through(later, there, email)
    assert answer.headers["location"] == "/login/code"
    assert not is_logged_in(later)
    assert (await later.submit("/login/code", code=phone.next_code())).status_code == 303
    assert await can_enter(later)


async def make_stale(resources: Resources, client: Client) -> None:
    """The session's last proof of identity was an hour ago; the clock of the provider cannot be moved."""
    login = await sessions.load(resources, client.http.cookies["sid"])
    assert login is not None
    token, _ = await sessions.rotate(resources, login, authenticated_at=clock.now() - timedelta(hours=1))
    client.http.cookies.set("sid", token, domain="127.0.0.1")


async def test_people_without_a_password_prove_themselves_there(
    visitor: Client, there: There, resources: Resources
) -> None:
    email = new_address()
    await through(visitor, there, email)
    await make_stale(resources, visitor)
    assert (await visitor.get("/account/deletion")).headers["location"].startswith("/confirm")
    away = await leave(visitor, "/confirm/provider?next=/account/deletion", "/confirm")
    asked = parse_qs(urlsplit(away).query)
    assert (asked["prompt"], asked["max_age"]) == (["login"], ["0"])
    stranger = await arrive(visitor, await there.log_in(away, new_address()))
    assert stranger.headers["location"] == "/confirm", "somebody else's login there proves nothing"
    away = await leave(visitor, "/confirm/provider?next=/account/deletion", "/confirm")
    same = await arrive(visitor, await there.log_in(away, email))
    assert same.headers["location"] == "/account/deletion"
    assert (await visitor.get("/account/deletion")).status_code == 200
    assert (await visitor.submit("/account/password", password=PASSWORD)).status_code == 303
    assert (await visitor.submit("/login", email=email, password=PASSWORD)).status_code == 303


async def test_an_old_login_there_is_no_fresh_proof(visitor: Client, there: There, resources: Resources) -> None:
    email = new_address()
    await through(visitor, there, email)
    back = await there.log_in(await leave(visitor, "/confirm/provider", "/confirm"), email)
    clock.advance(timedelta(minutes=8))
    answer = await arrive(visitor, back)
    assert answer.headers["location"] == "/confirm"


async def test_people_without_a_password_prove_themselves_by_code(
    visitor: Client, there: There, resources: Resources
) -> None:
    await through(visitor, there, new_address())
    phone, _ = await turn_on(visitor)
    await make_stale(resources, visitor)
    code = phone.next_code()
    assert (await visitor.submit("/confirm", proof="000000")).status_code == 422
    assert (await visitor.submit("/confirm", proof=code)).status_code == 303
    assert (await visitor.submit("/confirm", proof=code)).status_code == 422, "a code works once, here as well"


async def test_a_provider_that_is_away_is_told_as_such(visitor: Client, there: There, oidc: OIDCProvider) -> None:
    back = await there.log_in(await leave(visitor), new_address())
    oidc.knobs = OIDCKnobs(failing=True)
    answer = await arrive(visitor, back)
    assert answer.status_code == 503
    assert "cannot be reached" in answer.text
    assert not is_logged_in(visitor)


async def test_saying_no_there_leads_back_here(visitor: Client, oidc: OIDCProvider) -> None:
    state = parse_qs(urlsplit(await leave(visitor)).query)["state"][0]
    answer = await visitor.get(f"/login/provider/return?error=access_denied&state={state}")
    assert answer.headers["location"] == "/login"
    assert "did not complete" in await told(visitor)
    assert (await visitor.get(f"/login/provider/return?code={uuid4().hex}")).headers["location"] == "/login"
