"""A tiny application on the shelf: pages of a made-up feature, so that the shelf is tested without the product."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI
from jinja2 import ChoiceLoader, FileSystemLoader, PrefixLoader
from pydantic import EmailStr, Field, SecretStr
from starlette.requests import Request
from starlette.responses import Response

from service.core.errors import Conflict, NotAuthenticated, ServiceError, TooManyRequests
from service.core.schemas import Input, Name, Text
from service.guardrails.contexts import Identity
from service.guardrails.permissions import Role
from service.guardrails.switches import Switch
from service.web import templating
from service.web.assets import mount_assets
from service.web.errors import install_error_handlers
from service.web.flash import flash
from service.web.forms import Form
from service.web.responses import etag, not_modified, redirect
from service.web.templating import NavItem, Page, render

VERSION = "2026_11_22"

TEMPLATES = {
    "list.html": """{% extends "base.html" %}{% block title %}Things{% endblock %}{% block content %}
{% block part %}<section id="part"{{ ui.poll("/things", 1, tag) }}><p>{{ what }}</p></section>{% endblock %}
{{ ui.post_button(page, "/things/delete", "Delete", "danger", confirm="Delete the thing?") }}
{{ ui.copy_button("one-time-code") }}{% endblock %}""",
    "form.html": """{% extends "auth.html" %}{% block title %}Form{% endblock %}{% block content %}
{% call ui.form(page, form, "/form") %}{{ ui.field(form, "name") }}{{ ui.field(form, "email", type="email") }}
{{ ui.field(form, "password", type="password") }}{{ ui.field(form, "note", type="textarea") }}
{{ ui.field(form, "terms", type="checkbox") }}{{ ui.field(form, "colour", type="select", options=["red", "blue"]) }}
{{ ui.button("Send", "primary") }}{% endcall %}{% endblock %}""",
    "moment.html": """{% extends "base.html" %}{% block title %}Moment{% endblock %}{% block content %}
<p>{{ at|datetime }}</p>{{ line_chart(points, "Course", unit="EUR") }}{% endblock %}""",
}


class Person(Input):
    """One field of every kind that a form can show."""

    name: Name = Field(title="Your name", description="As your colleagues know you.")
    email: EmailStr
    password: Annotated[SecretStr, Field(min_length=8)]
    age: int | None = Field(None, ge=18, le=130)
    share: float | None = None
    note: Text = Field("", max_length=200)
    colour: str = "red"
    terms: bool = False


IDENTITY = Identity(
    user_id=None,  # type: ignore[arg-type]
    name="Ada <b>Lovelace</b>",
    email="ada@example.com",
    is_staff=False,
    session_epoch=0,
    organization_id=None,
    organization_name='"Northwind" & Sons',
    role=Role.MEMBER,
)


@pytest.fixture(scope="package")
def shelf_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    features = tmp_path_factory.mktemp("features")
    folder = features / "things" / "templates"
    folder.mkdir(parents=True)
    for name, text in TEMPLATES.items():
        (folder / name).write_text(text)
    # Added to the product's and not in their place: the worker of the same process composes mails meanwhile.
    shelf = templating.environment().loader
    assert isinstance(shelf, ChoiceLoader)
    made_up = PrefixLoader({"things": FileSystemLoader(folder)})
    shelf.loaders = [*shelf.loaders, made_up]
    yield make_app()
    shelf.loaders = [one for one in shelf.loaders if one is not made_up]


def make_app() -> FastAPI:
    app = FastAPI()
    app.state.schema_version = VERSION
    app.state.nav = [
        NavItem("Settings", "/settings", "settings", 90, Role.OWNER),
        NavItem("Things", "/things", "chart", 10),
        NavItem("Members", "/members", "users", 20, Role.MEMBER, group="People"),
    ]
    mount_assets(app)
    install_error_handlers(app, {NotAuthenticated: "/login"})

    @app.middleware("http")
    async def identify(request: Request, call_next: Any) -> Any:
        request.state.request_id = "request-1"
        if "anonymous" not in request.query_params:
            request.state.identity = IDENTITY
        return await call_next(request)

    @app.get("/things")
    async def things(request: Request, what: str = "first") -> Response:
        if what == "<told>":
            flash(request, "Told <you>.")
        tag = etag(request, what)
        return not_modified(request, tag, poll_seconds=7) or render(
            request,
            "things/list.html",
            fragment="part",
            headers={"ETag": tag, "Cache-Control": "no-store"},
            what=what,
            tag=tag,
        )

    @app.get("/moment")
    async def moment(request: Request) -> Response:
        at = datetime(2026, 11, 22, 14, 40, tzinfo=UTC)
        points = [(at + timedelta(hours=hour), 10.0 * (hour + 1)) for hour in range(3)]
        return render(request, "things/moment.html", at=at, points=points)

    @app.get("/banner")
    async def banner(request: Request) -> Response:
        request.state.switches = {Switch.READ_ONLY: "we are <moving>"}
        return render(request, "things/list.html", what="", tag="")

    @app.post("/things/delete")
    async def delete(request: Request) -> Response:
        flash(request, "Moved to the <bin>.")
        return redirect(request, "/things")

    @app.get("/form")
    async def empty(request: Request) -> Response:
        return render(request, "things/form.html", form=Form(Person))

    @app.post("/form")
    async def send(request: Request) -> Response:
        form = await Form.parse(Person, request)
        if form.valid and form.data.name == "Taken":
            form.refuse(Conflict("That name is taken.", fields={"name": "Choose another name."}))
        if form.valid:
            return redirect(request, "/things")
        return render(request, "things/form.html", form=form)

    @app.get("/fail/{kind}")
    @app.post("/fail/{kind}")
    async def fail(kind: str, request: Request) -> Response:
        if kind == "conflict":
            raise Conflict("It is <already> archived.", mend="Restore it first.")
        if kind == "limit":
            raise TooManyRequests("Too often.", retry_after=17)
        if kind == "login":
            raise NotAuthenticated("This needs a login.")
        if kind == "internal":
            raise ServiceError("the secret cause", mend="the secret cure")
        raise RuntimeError("the secret cause")

    @app.get("/number/{number}")
    async def number(number: int, size: int = 1) -> dict[str, int]:
        return {"number": number, "size": size}

    @app.post("/api/v1/people")
    async def people(person: Person) -> dict[str, str]:
        return {"name": person.name}

    @app.get("/api/v1/fail")
    async def api_fail() -> None:
        raise RuntimeError("the secret cause")

    @app.get("/api/v1/number/{number}")
    async def api_number(number: int) -> dict[str, int]:
        return {"number": number}

    return app


@pytest.fixture
async def client(shelf_app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(shelf_app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as made:
        yield made


@pytest.fixture
def page() -> Page:
    return Page("/things", "csrf-token", VERSION, None, (), "", ())


class Elements(HTMLParser):
    """Every start tag with its attributes, as a browser would read them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in wanted.items()}
        return [attrs for name, attrs in self.found if name == tag and wanted.items() <= attrs.items()]


ROOT = Path(__file__).parents[2]
