"""Every address that a template, a redirect or a menu names leads somewhere: a dead link is a dead end for a person."""

from __future__ import annotations

import re
from pathlib import Path

from fastapi import FastAPI

from tests.architecture.conftest import SERVICE, Route, plain_routes_of

LITERAL = re.compile(r"""(?:href=|action=|hx_get=|hx-get=|hx_post=|, |\(|to = )["'](/[a-z][a-z0-9/_.-]*)""")


def patterns(routes: list[Route], app: FastAPI) -> list[re.Pattern[str]]:
    paths = {route.path for route in routes} | {str(context.path) for context in plain_routes_of(app)}
    return [re.compile(re.sub(r"{[^}]+}", "[^/]*", path) + "/?$") for path in paths]


def named_in(file: Path) -> set[str]:
    return {path.rstrip("/") or "/" for path in LITERAL.findall(file.read_text())}


def dead(files: list[Path], known: list[re.Pattern[str]]) -> tuple[int, list[str]]:
    """(how many addresses were seen, those that no route answers); an id may follow where the template adds one."""
    seen, missing = 0, []
    for file in files:
        for path in named_in(file):
            seen += 1
            tries = (path, f"{path}/x", f"{path}/x/x", f"{path}/x/end", f"{path}/x/replay")
            if not any(pattern.match(each) for pattern in known for each in tries):
                missing.append(f"{file.name}: {path}")
    return seen, missing


def test_every_address_in_a_template_has_a_route(routes: list[Route], app: FastAPI) -> None:
    files = [*SERVICE.rglob("*.html"), *SERVICE.glob("features/*/pages*"), *SERVICE.glob("features/*/pages/*.py")]
    files = [file for file in files if file.is_file()]
    seen, missing = dead(files, patterns(routes, app))
    assert seen >= 140, f"the scan saw only {seen} addresses"
    assert not missing, f"no route answers {missing}: correct the address or add the route"


def test_a_dead_link_is_found(tmp_path: Path, routes: list[Route], app: FastAPI) -> None:
    file = tmp_path / "probe.html"
    file.write_text('<a href="/nowhere">x</a> <a href="/dashboard">y</a>')
    assert dead([file], patterns(routes, app)) == (2, ["probe.html: /nowhere"])
