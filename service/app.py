"""The composition root: the one place where settings, pools, guard rails and features meet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from inspect import signature
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Scope

from service.catalog import load_tables
from service.core import telemetry
from service.core.context import Allowance, Resources
from service.core.database import Database
from service.core.errors import NotAuthenticated, StepUpRequired
from service.core.features import load
from service.core.logging import configure_logging, get_logger
from service.core.migrate import head
from service.core.observe import NameRoute, Observe
from service.core.redis import create_redis
from service.core.settings import Settings
from service.core.startup import freeze_startup_objects, share_one_heap
from service.features import FEATURES
from service.features.api_keys.queries import KEY_STORE
from service.features.billing.models import plans
from service.features.erasure.flows.gate import Gate
from service.features.organizations.queries import identify, look_up_region
from service.features.support.queries import get_running_visit
from service.guardrails import deprecation, entitlements, hipaa, processes
from service.guardrails.addresses import client_address, is_from_proxy
from service.guardrails.api_keys import KeyStore
from service.guardrails.browser import Shield
from service.guardrails.contexts import POLICIES, Identifier, NoOrganization
from service.guardrails.entitlements import Plans
from service.guardrails.hipaa import SecondFactorRequired
from service.guardrails.impersonation import Oversight, VisitOver
from service.guardrails.inbox import AcknowledgingPool
from service.guardrails.jobs.runner import AWAY
from service.guardrails.resealing import MissingKeys, compare_with_noted
from service.guardrails.residency import Regions
from service.guardrails.strict_json import API_PREFIX, Larger
from service.guardrails.uploads.policy import UploadPolicy, upload_policy_of
from service.integrations.http import HttpClient
from service.integrations.identity import IdentityProvider
from service.integrations.mail import Mailers, mailers_of
from service.integrations.scanner import Scanner
from service.integrations.sources.systems import Systems
from service.integrations.storage import Storage
from service.integrations.stripe.client import StripeApi
from service.integrations.webhooks import WebhookSender
from service.web import dead_letters
from service.web.assets import mount_assets
from service.web.contract import contract
from service.web.errors import STAFF_PREFIX, Detours, install_error_handlers, refusal
from service.web.staff import Panel
from service.web.staff_home import in_order
from service.web.templating import environment

log = get_logger()

API_VERSION = "v1"
ROUTE_PARAMETERS = frozenset(signature(APIRouter.add_api_route).parameters)


def without_organization(request: Request) -> str:
    """Our own people need none: their place is the panel."""
    return STAFF_PREFIX if request.scope["state"]["identity"].is_staff else "/organizations/new"


DETOURS: Detours = {
    VisitOver: "/impersonation/over",
    NotAuthenticated: "/login",
    StepUpRequired: "/confirm",
    NoOrganization: without_organization,
    SecondFactorRequired: "/account/security",
}
"""Where a person is sent, and back again, when one thing is missing."""


def create_app(settings: Settings) -> ASGIApp:
    """The finished application: observed, shielded, with every feature's routes."""
    share_one_heap()
    configure_logging(settings)
    telemetry.configure_tracing(settings)
    load_tables()
    app = build(settings)
    networks = settings.trusted_networks()

    def find_address(scope: Scope) -> str:
        return client_address(scope, networks)

    shielded = Shield(
        app,
        settings,
        lambda scope, error: refusal(app, scope, error),
        app.state.schema_version,
        large_bodies(app),
        uploads_of(app),
    )
    return Observe(shielded, find_address, lambda scope: is_from_proxy(scope, networks), route_names(app))


def build(settings: Settings) -> FastAPI:
    """The routes and handlers, before the layers that wrap them; architecture tests look at this."""
    app = FastAPI(
        title="Ballast",
        version=API_VERSION,
        docs_url=None,  # its scripts come from a public CDN, which our content policy rightly refuses
        redoc_url=None,
        openapi_url=None,  # features/developers serves the contract, complete and made once
        # Starlette would build the redirect from the Host header; an exact path answers, anything else is 404.
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False},
        lifespan=_lifespan,
    )
    # Announcing an action enqueues the jobs that subscribed to it, so the web process must know them, too.
    load(FEATURES, "jobs")
    app.state.resources = create_resources(settings)
    app.state.schema_version = head()
    install_error_handlers(app, DETOURS)
    mount_assets(app)
    environment()  # a template that does not compile stops the start, not a request
    for name, module in load(FEATURES, "api"):
        _add_routes(
            app, module.router, prefix=f"/api/{API_VERSION}/{name}", tags=[name], generate_unique_id_function=_name
        )
    app.state.nav, app.state.staff_pages, app.state.dead_letters, app.state.system_facts = [], [], [], []
    app.openapi = partial(contract, app)  # type: ignore[method-assign]  # the documented way to replace it
    for kind in ("pages", "admin"):
        for _, module in load(FEATURES, kind):
            if hasattr(module, "router"):
                _add_routes(app, module.router, include_in_schema=False)
            app.state.nav += getattr(module, "NAV", ())
            app.state.staff_pages += getattr(module, "STAFF_PAGES", ())
            app.state.dead_letters += getattr(module, "DEAD_LETTERS", ())
            app.state.system_facts += getattr(module, "SYSTEM_FACTS", ())
            # Programs call these, hundreds of times a second: finding the 125th route took a third of the answer.
            app.router.routes[:0] = getattr(module, "infrastructure", ())
    staff = [each for _, module in load(FEATURES, "admin") for each in getattr(module, "STAFF", ())]
    panel = Panel([*staff, *dead_letters.declared(app.state.dead_letters)])
    _add_routes(app, panel.router, include_in_schema=False)
    app.state.panel, app.state.staff_pages = panel, in_order([*app.state.staff_pages, *panel.pages])
    app.state.counts = {item.count.href: item.count.ask for item in app.state.nav if item.count}
    return app


def _name(route: APIRoute) -> str:
    """Generated clients call their functions so: the handler's name, which is the same whatever the path."""
    return route.name


def _add_routes(app: FastAPI, router: APIRouter, *, prefix: str = "", **more: Any) -> None:
    """Add a feature's routes, exactly as they are declared, to the one flat list.

    FastAPI asks each route of an included router through three more calls: a sixth of a request (docs/performance.md).
    Raises TypeError for a route without a context: it would answer without login, limit or forgery check; and for keys
    on a page, or a session in the API.
    """
    for route in router.routes:
        assert isinstance(route, APIRoute)  # noqa: S101 - the loader's modules hold nothing else
        path = prefix + route.path
        found = [POLICIES[each.call] for each in route.dependant.dependencies if each.call in POLICIES]
        if len(found) != 1:
            raise TypeError(f"{path}: give the handler exactly one of PublicCtx, UserCtx, Ctx, StaffCtx and KeyCtx")
        if (found == ["key"]) != path.startswith(API_PREFIX):
            raise TypeError(f"{path}: a route in an api.py takes KeyCtx, and no page does")
        declared = {name: getattr(route, name) for name in ROUTE_PARAMETERS if hasattr(route, name)}
        if deprecation.of(route.endpoint):
            declared["deprecated"] = True
        app.router.add_api_route(**declared | more | {"path": path, "route_class_override": type(route)})


def large_bodies(app: FastAPI) -> Larger:
    """The paths of the routes that ask for longer documents than everybody else's."""
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    asked = [(route.path_regex, getattr(route.endpoint, "most_json", 0)) for route in routes]
    return [(path, most) for path, most in asked if most]


def uploads_of(app: FastAPI) -> dict[tuple[str, str], UploadPolicy]:
    """The routes whose bodies are read as they come, by method and path: such a path has no parameters."""
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    found = [(route, upload_policy_of(route.endpoint)) for route in routes]
    return {(method, route.path): policy for route, policy in found if policy for method in route.methods or ()}


def route_names(app: FastAPI) -> NameRoute:
    """Looks up the template of the route that answered; a mount has none: its files are not routes."""
    plain: dict[Any, str] = {route.endpoint: route.path for route in app.routes if isinstance(route, Route)}

    def name(scope: Scope) -> str:
        route = scope.get("route")
        return route.path if route is not None else plain.get(scope.get("endpoint"), "unmatched")

    return name


def create_resources(settings: Settings, *, maintenance: bool = False) -> Resources:
    """The long-lived things of one process; only the worker is given the maintenance role.

    Raises InsecureSettings where a compliance profile does not allow them.
    """
    hipaa.refuse_unfit(settings)
    database = Database(settings.database_url.get_secret_value(), settings)
    second = None
    if maintenance:
        second = Database(settings.database_maintenance_url.get_secret_value(), settings, name="maintenance", size=2)
    resources = Resources(settings, database, create_redis(settings), second)
    resources.provide(Identifier, Identifier(identify))
    resources.provide(Oversight, Oversight(get_running_visit))
    resources.provide(KeyStore, KEY_STORE)
    resources.provide(Regions, Regions(settings.home_region, tuple(settings.places), look_up_region))
    names = {plan.key: plan.name for plan in plans.PLANS}
    stripe = StripeApi(settings)
    resources.provide(Plans, Plans(plans.FREE.key, plans.grants_of(plans.FREE), names, sold=stripe.enabled))
    resources.provide(Allowance, Allowance(entitlements.allow))
    http = HttpClient(settings)
    resources.provide(HttpClient, http)
    resources.provide(IdentityProvider, IdentityProvider(settings, http))
    resources.provide(Mailers, mailers_of(settings, http))
    resources.provide(Scanner, Scanner(settings))
    resources.provide(Storage, Storage(settings, http))
    resources.provide(StripeApi, stripe)
    resources.provide(Gate, Gate())
    resources.provide(Systems, Systems(settings))
    resources.provide(WebhookSender, WebhookSender(settings))
    url, size = settings.database_url.get_secret_value(), settings.inbox_pool_size
    resources.provide(AcknowledgingPool, AcknowledgingPool(url, settings, name="inbox", size=size))
    return resources


async def close_resources(resources: Resources) -> None:
    await resources.get(HttpClient).aclose()
    await resources.get(StripeApi).aclose()
    await resources.get(Systems).aclose()
    await resources.get(WebhookSender).aclose()
    await resources.redis.aclose()
    await resources.get(AcknowledgingPool).dispose()
    await resources.database.dispose()
    if resources.maintenance is not None:
        await resources.maintenance.dispose()


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    await _refuse_missing_keys(app.state.resources.database)
    gate = app.state.resources.get(Gate)
    if app.state.resources.settings.is_production:
        gate.shut()
    watchers = [
        asyncio.create_task(telemetry.watch_event_loop()),
        asyncio.create_task(processes.report(app.state.resources, "web")),
        asyncio.create_task(gate.watch(app.state.resources)),
    ]
    freeze_startup_objects()
    try:
        yield {}
    finally:
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        await close_resources(app.state.resources)
        await telemetry.stop_tracing()


async def _refuse_missing_keys(database: Database) -> None:
    """Raise MissingKeys; a database that is away is no reason not to start: it may be back before we are asked."""
    try:
        async with asyncio.timeout(5), database.unit_of_work(read_only=True) as work:
            await compare_with_noted(work.raw)
    except AWAY as error:
        log.warning("encryption keys not compared", error=type(error).__name__)
    except MissingKeys as error:
        log.critical("start refused", problem=str(error))
        raise
