"""Messages are said once, survive one redirect, and cannot be forged or outlive their minute."""

from __future__ import annotations

from datetime import timedelta

import httpx
import orjson
import pytest

from service.core import clock
from service.core.crypto import sign
from service.web.flash import LIFETIME_SECONDS, PURPOSE, cookie_name
from tests.web.conftest import Elements


async def deleted(client: httpx.AsyncClient) -> str:
    answer = await client.post("/things/delete")
    assert answer.status_code == 303
    set_cookie = answer.headers["set-cookie"]
    for part in ("HttpOnly", "Path=/", "SameSite=lax", f"Max-Age={LIFETIME_SECONDS}"):
        assert part in set_cookie
    return client.cookies["flash"]


async def test_a_message_survives_the_redirect_and_is_shown_once(client: httpx.AsyncClient) -> None:
    await deleted(client)
    first = await client.get("/things")
    assert "Moved to the &lt;bin&gt;." in first.text
    assert "Moved" not in (await client.get("/things")).text


async def test_a_message_of_this_very_request_is_shown_at_once(client: httpx.AsyncClient) -> None:
    answer = await client.get("/things", params={"what": "<told>"})
    assert "Told &lt;you&gt;." in answer.text
    assert "set-cookie" not in answer.headers or "flash" not in answer.headers["set-cookie"]


async def test_a_fragment_brings_its_message_out_of_band(client: httpx.AsyncClient) -> None:
    answer = await client.get("/things", params={"what": "<told>"}, headers={"HX-Request": "true"})
    elements = Elements(answer.text)
    assert elements.named("div", id="messages", hx_swap_oob="innerHTML")
    assert "Told <you>." in elements.text


async def test_htmx_gets_a_redirect_it_understands_and_the_message_waits(client: httpx.AsyncClient) -> None:
    answer = await client.post("/things/delete", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (204, "/things")
    assert "Moved to the" in (await client.get("/things")).text


async def test_two_redirects_in_a_row_lose_nothing(client: httpx.AsyncClient) -> None:
    await deleted(client)
    await deleted(client)
    assert (await client.get("/things")).text.count("Moved to the") == 2


async def test_an_old_message_is_not_shown(client: httpx.AsyncClient) -> None:
    await deleted(client)
    clock.advance(timedelta(seconds=LIFETIME_SECONDS + 1))
    assert "Moved" not in (await client.get("/things")).text


@pytest.mark.parametrize(
    "value",
    [
        "", "x", "A" * 5000, "\xe9".encode("latin-1").decode("latin-1"),
        sign("other.purpose", orjson.dumps([9e12, [["info", "planted"]]])),
        sign(PURPOSE, b"not json"), sign(PURPOSE, orjson.dumps({"planted": 1})), sign(PURPOSE, orjson.dumps([9e12])),
        sign(PURPOSE, orjson.dumps([9e12, [["unknown-kind", "planted"]]])),
        sign(PURPOSE, orjson.dumps(["x", [["info", "planted"]]])),
    ],
)  # fmt: skip
async def test_a_planted_cookie_says_nothing_and_breaks_nothing(client: httpx.AsyncClient, value: str) -> None:
    answer = await client.get("/things", headers={b"Cookie": f"flash={value}".encode("latin-1")})
    assert answer.status_code == 200
    assert "planted" not in answer.text


async def test_an_altered_message_is_dropped(client: httpx.AsyncClient) -> None:
    value = await deleted(client)
    altered = value[:-2] + ("A" if value[-2] != "A" else "B") + value[-1]
    client.cookies.clear()
    assert "Moved" not in (await client.get("/things", headers={"Cookie": f"flash={altered}"})).text


def test_the_cookie_is_pinned_to_the_host_over_https() -> None:
    assert (cookie_name(secure=True), cookie_name(secure=False)) == ("__Host-flash", "flash")
