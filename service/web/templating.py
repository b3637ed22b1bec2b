"""One Jinja2 environment for the whole service: compiled at start, everything escaped, a missing value is an error.

`render(request, "indicators/dashboard.html", tiles=tiles)` finds features/indicators/templates/dashboard.html; names
without a folder are the shelf's own. Every template knows `page` (see Page), `ui` (the macros of ui.html),
`icon(name)`, `asset(name)` and the filters of `service.web.formats`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from jinja2 import ChoiceLoader, Environment, FileSystemBytecodeCache, FileSystemLoader, PrefixLoader, StrictUndefined
from jinja2.bccache import Bucket
from starlette.requests import Request
from starlette.responses import HTMLResponse

from service.core.context import Context
from service.core.settings import get_settings
from service.guardrails import hipaa, impersonation
from service.guardrails.browser import CSRF_FIELD, CSRF_HEADER, csrf_token
from service.guardrails.entitlements import NotInPlan
from service.guardrails.impersonation import Visit
from service.guardrails.permissions import Requirement, Role, Who
from service.web import banners, formats
from service.web.assets import assets
from service.web.charts import line_chart, sparkline
from service.web.flash import Message, carry_messages, take_messages
from service.web.forms import SCHEMA_FIELD, Form
from service.web.markup import attributes, icon
from service.web.responses import is_fragment
from service.web.staff_home import addresses

SHELF = Path(__file__).parent / "templates"
FEATURES = Path(__file__).parents[1] / "features"
PRODUCT: Final = "Ballast"


@dataclass(frozen=True, slots=True)
class Count:
    """A number beside an entry of the menu: asked on every whole page of somebody in an organization, so a cheap one.

    `href` answers with the number alone, for the open page that asks again once a minute.
    """

    href: str
    ask: Callable[[Context], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class NavItem:
    """One entry of the main menu, shown to whoever meets the requirement; the action behind it checks again."""

    label: str
    href: str
    icon: str
    order: int = 100
    requires: Requirement = Who.SIGNED_IN
    count: Count | None = None
    group: str = ""
    """The heading it stands under; entries of one group have neighbouring orders."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at the page."""

    name: str
    email: str = ""
    organization: str = ""
    role: Role | None = None
    is_staff: bool = False

    def meets(self, requirement: Requirement) -> bool:
        if isinstance(requirement, Role):
            return self.role is not None and self.role >= requirement
        return requirement is not Who.STAFF or self.is_staff


@dataclass(frozen=True, slots=True)
class Page:
    """What every template can read as `page`."""

    path: str
    csrf: str
    schema_version: str
    viewer: Viewer | None
    nav: tuple[tuple[str, tuple[NavItem, ...]], ...]
    """The main menu: (heading or nothing, entries), in order."""
    paused: str
    """What everybody must know while changes are paused; empty otherwise."""
    messages: tuple[Message, ...]
    due: str = ""
    """What everybody must know while a payment is due; empty otherwise."""
    pay_at: str = ""
    """Where to pay, for those who may."""
    mail_late: str = ""
    """What those who answer for an organization must know while no mail leaves; empty otherwise."""
    visit: Visit | None = None
    """What staff must see who are in somebody's account; without names on pages that ask for no login."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """The menu's numbers, by address."""
    second_factor_due: bool = False
    """Whether the viewer reaches nothing but the pages that set up a second factor."""
    logs_off: bool = False
    """Whether the page leaves the screen by itself after the automatic logoff."""
    staff_pages: tuple[tuple[str, str], ...] = ()
    """The staff panel's pages, for staff: (title, address)."""

    @property
    def hidden(self) -> dict[str, str]:
        """What every form sends back unseen."""
        return {CSRF_FIELD: self.csrf, SCHEMA_FIELD: self.schema_version}

    @property
    def htmx_headers(self) -> dict[str, str]:
        return {CSRF_HEADER: self.csrf, "Schema-Version": self.schema_version}

    def is_current(self, href: str) -> bool:
        return self.path == href or (href != "/" and self.path.startswith(f"{href}/"))


def page_globals(request: Request) -> Page:
    """Collects what guard rails and features have put into the request's and the application's state.

    Request state (`request.state.x`): identity and switches (see guardrails.contexts). Application state: nav (list of
    NavItem), schema_version (str).
    """
    state: Mapping[str, Any] = request.scope.setdefault("state", {})
    viewer = _viewer(state)
    nav = [item for item in getattr(request.app.state, "nav", ()) if viewer and viewer.meets(item.requires)]
    nav.sort(key=lambda item: (item.order, item.label))
    return Page(
        path=request.url.path,
        csrf=csrf_token(request, get_settings()),
        schema_version=schema_version(request),
        viewer=viewer,
        nav=tuple((heading, tuple(items)) for heading, items in groupby(nav, key=lambda item: item.group)),
        paused=banners.paused(state),
        mail_late=banners.mail_late(state),
        due=banners.due(state),
        pay_at=NotInPlan.way_out[1] if viewer and viewer.meets(Role.ADMIN) else "",
        messages=tuple(take_messages(request)),
        counts=state.get("counts", {}),
        visit=state.get(impersonation.STATE) or banners.visiting(request, get_settings()),
        second_factor_due=bool(state.get("second_factor_due")),
        logs_off=bool(state.get("logs_off")),
        staff_pages=addresses(request.app) if viewer and viewer.is_staff else (),
    )


def _viewer(state: Mapping[str, Any]) -> Viewer | None:
    identity = state.get("identity")
    if identity is None:
        return None
    return Viewer(
        name=identity.name or identity.email,
        email=identity.email,
        organization=identity.organization_name or "",
        role=identity.role,
        is_staff=identity.is_staff,
    )


def schema_version(request: Request) -> str:
    return str(getattr(request.app.state, "schema_version", ""))


def render(
    request: Request,
    template: str,
    /,
    *,
    fragment: str | None = None,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> HTMLResponse:
    """The whole page; or only the block named `fragment` when htmx asks.

    The status is 422 when a form among the values has errors, unless given.
    """
    if fragment is not None and is_fragment(request):
        return render_fragment(request, template, fragment, status=status, headers=headers, **values)
    page = page_globals(request)
    html = environment().get_template(template).render(page=page, **values)
    if page.logs_off:
        # To a page without a person: coming back to this one would count as use, and two open pages never log off.
        headers = {"Refresh": f"{hipaa.IDLE.total_seconds() + 5:.0f}; url=/login", **(headers or {})}
    return _respond(request, html, status, headers, values)


def render_fragment(
    request: Request,
    template: str,
    block: str,
    /,
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> HTMLResponse:
    """One block of a template, followed by pending flash messages for the page's message area."""
    page = page_globals(request)
    source = environment().get_template(template)
    context = source.new_context({"page": page, **values})
    html = "".join(source.blocks[block](context))
    if page.messages:
        html += environment().get_template("flash.html").render(page=page)
    return _respond(request, html, status, headers, values)


def _respond(
    request: Request, html: str, status: int | None, headers: Mapping[str, str] | None, values: Mapping[str, Any]
) -> HTMLResponse:
    if status is None:
        status = 422 if any(isinstance(value, Form) and value.errors for value in values.values()) else 200
    # Without Vary a cache would hand a stored fragment to somebody who asked for the page. The version lets a page
    # that was opened before a deploy notice that this fragment no longer fits it.
    own = {"Vary": "HX-Request", "Schema-Version": schema_version(request)}
    response = HTMLResponse(html, status, headers={**own, **(headers or {})})
    carry_messages(request, response)
    return response


class CompiledTemplates(FileSystemBytecodeCache):
    """Beside Python's own bytecode: to compile a hundred templates anew was half of each start's time.

    Trusted as that is: who can write there can change the program anyway. `makers` are the files of the filters, which
    Jinja2 applies to constants when it compiles.
    """

    def __init__(self, folder: Path, *makers: Path) -> None:
        made_by = sha256(version("jinja2").encode() + b"".join(maker.read_bytes() for maker in makers)).hexdigest()
        super().__init__(str(folder), f"{made_by[:16]}-%s")

    def dump_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError):  # a container's disk is read-only
            Path(self.directory).mkdir(parents=True, exist_ok=True)
            super().dump_bytecode(bucket)


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Built and compiled once per process; call it at start so that a broken template stops the start."""
    return build_environment(FEATURES)


def build_environment(features: Path) -> Environment:
    folders = {path.parent.name: FileSystemLoader(path) for path in sorted(features.glob("*/templates"))}
    env = Environment(
        loader=ChoiceLoader([FileSystemLoader(SHELF), PrefixLoader(folders)]),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        cache_size=-1,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=CompiledTemplates(SHELF.parent / "__pycache__", Path(__file__), Path(formats.__file__)),
    )
    env.globals.update(PRODUCT=PRODUCT, asset=assets().url, icon=icon, sparkline=sparkline, line_chart=line_chart)
    for name in ("ago", "iso", "number", "money", "day", "percent", "initials", "safe_url"):
        env.filters[name] = getattr(formats, name)
    env.filters.update(datetime=formats.date_time, attributes=attributes)
    # A global instead of `{% import %}`: blocks rendered on their own do not see a template's imports.
    env.globals["ui"] = env.get_template("ui.html").module
    for name in env.list_templates():
        env.get_template(name)
    return env
