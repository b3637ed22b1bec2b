"""What is remembered of a browser before anybody is logged in."""

from __future__ import annotations

import base64

import pytest
from starlette.responses import Response

from service.core.context import Resources
from service.core.scripts import Script
from service.core.settings import Settings
from service.guardrails import before_login
from service.guardrails.sessions import load
from tests.guardrails.instances import cookies_of, later, request


async def test_a_half_finished_login_is_remembered_once_for_this_browser(here: Resources) -> None:
    response = Response()
    await before_login.hold(here, response, "oidc", {"state": "s", "nonce": "n"})
    browser = request(cookie="; ".join(f"{name}={value}" for name, value in cookies_of(response).items()))
    assert await before_login.held(request(), here, "oidc") is None
    assert await before_login.held(browser, here, "code") is None, "another purpose has another cookie"
    assert await before_login.held(browser, here, "oidc", keep=True) == {"state": "s", "nonce": "n"}
    assert await before_login.held(browser, here, "oidc") == {"state": "s", "nonce": "n"}
    assert await before_login.held(browser, here, "oidc") is None, "an answer that is played again finds nothing"


async def test_it_bites_without_the_deletion_an_answer_can_be_played_again(
    here: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = before_login.HELD.source.partition("main()\n")[2].rpartition("\nend\n")[0]
    monkeypatch.setattr(before_login, "HELD", Script("held", body.replace("redis.call('DEL', ARGV[1])", "")))
    response = Response()
    await before_login.hold(here, response, "oidc", {"state": "s"})
    browser = request(cookie=f"oidc={cookies_of(response)['oidc']}")
    assert [await before_login.held(browser, here, "oidc") for _ in range(2)] == [{"state": "s"}] * 2


async def test_what_is_held_is_no_session_and_gone_after_ten_minutes(here: Resources) -> None:
    response = Response()
    await before_login.hold(here, response, "code", {"user": "u"})
    token = cookies_of(response)["code"]
    assert await load(here, token) is None
    assert await before_login.held(request(cookie=f"oidc={token}"), here, "oidc") is None
    later(minutes=10)
    assert await before_login.held(request(cookie=f"code={token}"), here, "code") is None


def test_a_known_device_is_known_to_its_own_account_only() -> None:
    response, settings = Response(), Settings()
    before_login.remember_device(response, settings, "ann@example.com")
    browser = request(cookie=f"device={cookies_of(response)['device']}")
    device = before_login.known_device(browser, settings, "Ann@Example.com ")
    assert device is not None
    assert before_login.known_device(browser, settings, "bob@example.com") is None
    other = Response()
    before_login.remember_device(other, settings, "ann@example.com")
    assert (
        before_login.known_device(request(cookie=f"device={cookies_of(other)['device']}"), settings, "ann@example.com")
        != device
    )
    forged = base64.urlsafe_b64encode(bytes(60)).decode()
    assert before_login.known_device(request(cookie=f"device={forged}"), settings, "ann@example.com") is None
    assert before_login.known_device(request(), settings, "ann@example.com") is None
