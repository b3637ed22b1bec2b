"""What the rules look at: every route, every rule, every table, every file. Finding too little fails.

Since FastAPI 0.137 `app.routes` is a tree: a loop over it that asks for APIRoute finds nothing, and a test that finds
nothing is green. `iter_route_contexts` walks the tree, and each floor below says how much there was when it was set.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from sqlalchemy import MetaData

from service.app import build
from service.catalog import load_tables
from service.core.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SERVICE = ROOT / "service"
FLOORS = {"routes": 112, "rules": 69, "tables": 17, "files": 118, "texts": 385}


def at_least(what: str, seen: int) -> None:
    assert seen >= FLOORS[what], (
        f"the scan saw only {seen} {what}, there were {FLOORS[what]} when the floor was set: "
        f"either the scan is blind or much was removed; then lower the floor in tests/architecture/conftest.py"
    )


@dataclass(frozen=True)
class Route:
    """One method and path of the application, with its effective endpoint."""

    method: str
    path: str
    endpoint: Any
    api_route: APIRoute

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def is_api(self) -> bool:
        return self.path.startswith("/api/")


@pytest.fixture(scope="session")
def app(settings: Settings) -> FastAPI:
    load_tables()
    return build(settings)


def routes_of(app: FastAPI) -> Iterator[Route]:
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, APIRoute):
            for method in sorted((context.methods or set()) - {"HEAD"}):
                yield Route(method, str(context.path), context.endpoint, route)


def plain_routes_of(app: FastAPI) -> Iterator[RouteContext]:
    """Routes that are not FastAPI's: probes and static files; a reviewed list names them."""
    for context in iter_route_contexts(app.routes):
        if not isinstance(context.original_route, APIRoute):
            yield context


@pytest.fixture(scope="session")
def routes(app: FastAPI) -> list[Route]:
    found = list(routes_of(app))
    at_least("routes", len(found))
    return found


@pytest.fixture(scope="session")
def metadata() -> MetaData:
    found = load_tables()
    at_least("tables", len(found.tables))
    return found


@pytest.fixture(scope="session")
def sources() -> dict[Path, ast.Module]:
    """Every Python file of the service, parsed."""
    found = {path: ast.parse(path.read_text()) for path in sorted(SERVICE.rglob("*.py"))}
    at_least("files", len(found))
    return found
