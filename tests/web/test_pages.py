"""Whole pages and fragments: what every page carries, what a poll gets, how failures read."""

from __future__ import annotations

import json

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request

from service.core.settings import get_settings
from service.web.responses import redirect, safe_path
from service.web.templating import FEATURES, build_environment, environment
from tests.web.conftest import VERSION, Elements

HTMX = {"HX-Request": "true"}


def test_every_template_of_the_service_compiles() -> None:
    names = build_environment(FEATURES).list_templates()
    assert {"base.html", "auth.html", "error.html", "error_fragment.html", "ui.html"} <= set(names)
    assert len([name for name in names if "/" in name]) >= 10, (
        "the features' templates are reachable as feature/file.html"
    )


def test_features_are_found_under_their_name(shelf_app: FastAPI) -> None:
    assert "things/list.html" in environment().list_templates()


async def test_a_page_carries_what_every_page_needs(client: httpx.AsyncClient) -> None:
    answer = await client.get("/things")
    assert answer.headers["vary"] == "HX-Request"
    assert answer.headers["schema-version"] == VERSION
    page = Elements(answer.text)
    [meta] = page.named("meta", name="schema-version")
    assert meta["content"] == VERSION
    [config] = page.named("meta", name="htmx-config")
    assert json.loads(config["content"])["extensions"] == "ballast"
    assert page.named("a", href="#main", class_="skip")
    assert page.named("main", id="main")
    [body] = page.named("body")
    headers = json.loads(body["hx-headers:inherited"])
    assert headers["Schema-Version"] == VERSION
    [token] = {field["value"] for field in page.named("input", name="csrf")}
    assert headers["x-csrf-token"] == token
    assert len(token) >= 32
    assert "Ada <b>Lovelace</b>" in page.text
    assert '"Northwind" & Sons' in page.text
    assert "Member" in page.text


async def test_the_menu_shows_what_the_role_may_and_where_we_are(client: httpx.AsyncClient) -> None:
    links = Elements((await client.get("/things")).text).named("a")
    order = [link["href"] for link in links if link["href"] in ("/things", "/members", "/settings")]
    assert order == ["/things", "/members"] * 2, "side bar and phone menu; settings are for owners"
    assert [link["href"] for link in links if link.get("aria-current") == "page"] == ["/things"] * 2


async def test_the_menu_names_its_groups_to_eyes_and_ears(client: httpx.AsyncClient) -> None:
    page = Elements((await client.get("/things")).text)
    assert [one.get("aria-label") for one in page.named("ul") if one.get("class") == "nav"][:2] == [None, "People"]
    assert page.text.count("People") == 2, "side bar and phone menu"


async def test_nobody_gets_a_menu_without_a_login(client: httpx.AsyncClient) -> None:
    page = Elements((await client.get("/things?anonymous=1")).text)
    assert not page.named("nav", aria_label="Main")
    assert not page.named("form", action="/logout")


async def test_whoever_cannot_change_anything_is_told_why(client: httpx.AsyncClient) -> None:
    page = Elements((await client.get("/banner")).text)
    assert "Changes are paused: we are <moving>. Reading works as always." in page.text


async def test_htmx_gets_the_block_and_a_browser_the_page(client: httpx.AsyncClient) -> None:
    fragment = await client.get("/things", headers=HTMX)
    assert fragment.text.startswith('<section id="part"')
    assert "<html" not in fragment.text
    assert fragment.headers["vary"] == "HX-Request"
    whole = await client.get("/things")
    assert fragment.text in whole.text


async def test_a_poll_with_the_known_version_gets_304(client: httpx.AsyncClient) -> None:
    page = await client.get("/things")
    tag = page.headers["etag"]
    assert f'data-etag="{tag.replace(chr(34), "&#34;")}"' in page.text
    poll = await client.get("/things", headers={**HTMX, "If-None-Match": tag})
    assert (poll.status_code, poll.content) == (304, b"")
    assert (poll.headers["etag"], poll.headers["poll-seconds"], poll.headers["vary"]) == (tag, "7", "HX-Request")
    without_mark = await client.get("/things", headers={**HTMX, "If-None-Match": f'"x", {tag.removeprefix("W/")}'})
    assert without_mark.status_code == 304
    changed = await client.get("/things?what=second", headers={**HTMX, "If-None-Match": tag})
    assert changed.status_code == 200


async def test_a_whole_page_is_never_304(client: httpx.AsyncClient) -> None:
    """It also carries messages: a reload after "Saved." must show it."""
    tag = (await client.get("/things")).headers["etag"]
    assert (await client.get("/things", headers={"If-None-Match": tag})).status_code == 200


async def test_a_new_release_changes_the_version(client: httpx.AsyncClient, shelf_app: FastAPI) -> None:
    tag = (await client.get("/things")).headers["etag"]
    shelf_app.state.schema_version = "2027_01_01"
    try:
        assert (await client.get("/things")).headers["etag"] != tag
    finally:
        shelf_app.state.schema_version = VERSION


@pytest.mark.parametrize("path", ["/", "/a/b?c=%20d", "/a#b"])
def test_paths_of_this_site_pass(path: str) -> None:
    assert safe_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        None,
        "//evil.example",
        "/\\evil.example",
        "\\evil",
        "https://evil.example",
        "javascript:x",
        "/a\r\nb",
        "/\ta",
        "a/b",
        "/ä",
        "/a\\b",
    ],
)
def test_other_targets_become_the_default(path: str | None) -> None:
    """Open redirect (OWASP ASVS 3.7.2)."""
    assert safe_path(path, default="/home") == "/home"


def test_a_redirect_to_elsewhere_is_a_mistake_of_ours() -> None:
    request = Request({"type": "http", "headers": [], "query_string": b"", "path": "/", "method": "POST"})
    with pytest.raises(ValueError, match="path of this site"):
        redirect(request, "//evil.example")


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/fail/conflict", 409, ["It is &lt;already&gt; archived.", "Restore it first."]),
        ("/fail/limit", 429, ["Too often."]),
        ("/nowhere", 404, ["There is nothing at this address."]),
        ("/number/abc", 404, ["There is nothing at this address."]),
        ("/number/1?size=abc", 422, ["Some values are not right."]),
        ("/fail/crash", 500, ["Something went wrong", "request-1"]),
        ("/fail/internal", 500, ["Something went wrong", "request-1"]),
    ],
)
async def test_people_get_a_page(client: httpx.AsyncClient, path: str, status: int, says: list[str]) -> None:
    answer = await client.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == status
    assert answer.headers["cache-control"] == "no-store"
    for text in [*says, "<html"]:
        assert text in answer.text
    assert "secret" not in answer.text
    assert "abc" not in Elements(answer.text).text


@pytest.mark.parametrize(("path", "status"), [("/fail/conflict", 409), ("/nowhere", 404), ("/fail/internal", 500)])
async def test_htmx_gets_a_message_for_the_message_area(client: httpx.AsyncClient, path: str, status: int) -> None:
    answer = await client.get(path, headers=HTMX)
    assert answer.status_code == status
    assert (answer.headers["hx-retarget"], answer.headers["hx-reswap"]) == ("#messages", "innerHTML")
    assert "<html" not in answer.text
    assert Elements(answer.text).named("div", role="alert")
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v1/nowhere", 404, "not-found"),
        ("PUT", "/api/v1/people", 405, "method-not-allowed"),
        ("POST", "/api/v1/people", 422, "invalid"),
        ("GET", "/api/v1/number/abc", 422, "invalid"),
        ("GET", "/api/v1/fail", 500, "internal"),
        ("GET", "/fail/internal", 500, "internal"),
        ("GET", "/fail/limit", 429, "too-many-requests"),
    ],
)
async def test_programs_get_problem_details(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    """RFC 9457."""
    body = {"name": "", "evil<field>": 1} if method == "POST" else None
    answer = await client.request(method, path, headers={"Accept": "application/json"}, json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"] == f"{get_settings().base_url}/problems/{code}"
    assert problem["request_id"] == "request-1"
    assert problem["title"]
    assert "evil" not in answer.text
    assert "secret" not in answer.text
    assert ("mend" in problem) == (status < 500)


async def test_a_problem_names_each_field(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/people", json={"name": "", "email": "x", "password": "long enough", "nope": 1})
    errors = {item["field"]: item["message"] for item in answer.json()["errors"]}
    assert errors["email"] == "Enter an e-mail address like name@example.com."
    assert errors["body"] == "Unknown fields are refused."
    assert "name" in errors
    broken = await client.post("/api/v1/people", content=b"{", headers={"Content-Type": "application/json"})
    assert (broken.status_code, broken.json()["code"]) == (400, "bad-request")


async def test_retry_after_and_allow_reach_the_client(client: httpx.AsyncClient) -> None:
    assert (await client.get("/fail/limit")).headers["retry-after"] == "17"
    assert "GET" in (await client.put("/things")).headers["allow"]


@pytest.mark.parametrize(
    ("headers", "method", "path", "to"),
    [
        ({}, "GET", "/fail/login?a=b", "/login?next=/fail/login%3Fa%3Db"),
        ({"Referer": "http://127.0.0.1:8000/things?x=1"}, "POST", "/fail/login", "/login?next=/things%3Fx%3D1"),
        ({"Referer": "https://evil.example/things"}, "POST", "/fail/login", "/login"),
        ({}, "POST", "/fail/login", "/login"),
    ],
)
async def test_people_who_must_log_in_come_back(
    client: httpx.AsyncClient, headers: dict[str, str], method: str, path: str, to: str
) -> None:
    answer = await client.request(method, path, headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (303, to)


async def test_a_fragment_sends_the_whole_page_to_the_login(client: httpx.AsyncClient) -> None:
    headers = {**HTMX, "HX-Current-URL": "http://127.0.0.1:8000/things"}
    answer = await client.get("/fail/login", headers=headers)
    assert (answer.status_code, answer.headers["hx-redirect"]) == (204, "/login?next=/things")


async def test_programs_are_told_to_log_in_and_not_redirected(client: httpx.AsyncClient) -> None:
    answer = await client.get("/fail/login", headers={"Accept": "application/json"})
    assert answer.status_code == 401
