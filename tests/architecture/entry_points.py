"""Every way into the service: routes, plain routes, jobs, loops, commands, mails, listeners, reads of stored objects.

The threat model has a row for each (docs/threats), and what the code already says about one is read here, not typed.
"""

from __future__ import annotations

import ast
import inspect
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import typer.main
from fastapi import FastAPI
from starlette.routing import Mount

from service.cli import cli
from service.core.features import load
from service.features import FEATURES
from service.guardrails.actions import Rule
from service.guardrails.contexts import POLICIES
from service.guardrails.idempotency import IdempotencyKey
from service.guardrails.jobs.registry import JOBS, STANDING
from service.guardrails.preconditions import IfMatch
from service.guardrails.rate_limits import policy_of
from service.guardrails.uploads.policy import upload_policy_of
from service.web.mail import LETTERS
from tests.architecture.conftest import ROOT, SERVICE, Route, plain_routes_of, routes_of

WORKER_LOOPS = ("heartbeat", "seal")
"""What service/worker.py itself repeats, beside the loops that features register."""
LISTENERS = ("web", "worker probes")
OBJECT_READS = ("get", "presign")
REPLAYED = {
    typing.get_args(IdempotencyKey)[1].dependency: "idempotency key",
    typing.get_args(IfMatch)[1].dependency: "version",
}


@dataclass(frozen=True)
class EntryPoint:
    """One way in: its name in docs/threats, whose file it belongs to, and what the code says about it."""

    name: str
    owner: str
    policy: str


@cache
def known_tests() -> frozenset[str]:
    """path::function of every test there is."""
    return frozenset(
        f"{path.relative_to(ROOT)}::{node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


def entry_points(app: FastAPI, more: tuple[EntryPoint, ...] = ()) -> dict[str, EntryPoint]:
    found = [*_routes(app), *_plain(app), *_background(), *_commands(), *_mails(), *_listeners(), *_objects(), *more]
    names = [one.name for one in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    assert not twice, f"two entry points of one name: {twice}"
    return {one.name: one for one in found}


def _routes(app: FastAPI) -> Iterator[EntryPoint]:
    for route in routes_of(app):
        yield EntryPoint(str(route), feature_of(route.endpoint.__module__), policy_line(route))


def context_of(route: Route) -> str:
    return next((POLICIES[one.call] for one in route.api_route.dependant.dependencies if one.call in POLICIES), "none")


def policy_line(route: Route) -> str:
    """Who gets in, how often, what proves them anew, what makes a repetition harmless, what stands in the log."""
    rules = rules_of(route.endpoint)
    writes = route.method != "GET"
    parts = [context_of(route), f"limit {policy_of(route.endpoint, route.method).name}"]
    if any(rule.step_up for rule in rules):
        parts.append("step-up")
    calls = {one.call for one in _dependencies(route.api_route.dependant)}
    parts += [word for call, word in REPLAYED.items() if call in calls]
    if upload_policy_of(route.endpoint):
        parts.append("upload")
    written = sorted(rule.name for rule in rules if rule.writes and writes)
    parts += [f"audit {', '.join(written)}"] if written else []
    return "; ".join(parts)


def _dependencies(dependant: Any) -> Iterator[Any]:
    for one in dependant.dependencies:
        yield one
        yield from _dependencies(one)


def rules_of(endpoint: Any) -> list[Rule]:
    """The actions and queries that a handler calls, directly or through functions of its own feature."""
    found: dict[str, Rule] = {}
    verb = getattr(getattr(endpoint, "declared", None), "verb", None)  # a page that the staff panel made
    if isinstance(rule := getattr(verb, "rule", None), Rule):
        found[rule.name] = rule
    _walk(inspect.unwrap(endpoint), feature_of(endpoint.__module__), found, set(), 4)
    return list(found.values())


def _walk(function: Any, feature: str, found: dict[str, Rule], seen: set[Any], depth: int) -> None:
    if function in seen or depth == 0:
        return
    seen.add(function)
    for thing in _named(function):
        if isinstance(thing, dict):  # one address for several acts
            for inner in thing.values():
                if isinstance(rule := getattr(inner, "rule", None), Rule):
                    found[rule.name] = rule
            continue
        rule = getattr(thing, "rule", None)
        if isinstance(rule, Rule):
            found[rule.name] = rule
        elif inspect.isfunction(thing) and feature_of(thing.__module__) == feature:
            _walk(inspect.unwrap(thing), feature, found, seen, depth - 1)


def _named(function: Callable[..., Any]) -> Iterator[Any]:
    """What the names in a function's text mean: `name` and `module.name`."""
    known = function.__globals__
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(function)))
    offered = {inner for node in ast.walk(tree) if _only_asks(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in offered:
            continue
        if isinstance(node, ast.Name) and node.id in known:
            yield known[node.id]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = known.get(node.value.id)
            if isinstance(module, ModuleType):
                yield getattr(module, node.attr, None)


def _only_asks(node: ast.AST) -> bool:
    """`may(ctx, action)`: a page that asks whether to show a button does not do what the button does."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "may"


def feature_of(module: str) -> str:
    parts = module.split(".")
    return parts[2] if parts[:2] == ["service", "features"] and len(parts) > 2 else "platform"


def _plain(app: FastAPI) -> Iterator[EntryPoint]:
    for context in plain_routes_of(app):
        if isinstance(context.original_route, Mount):
            yield EntryPoint(f"MOUNT {context.path}", "platform", "no context; files of the release")
            continue
        owner = feature_of(getattr(context.endpoint, "__module__", ""))
        for method in sorted((context.methods or {"GET"}) - {"HEAD"}):
            yield EntryPoint(f"{method} {context.path}", owner, "no context")


def _background() -> Iterator[EntryPoint]:
    load(FEATURES, "jobs")
    for name, job in JOBS.items():
        module = job.body.__module__
        if module.startswith("service."):  # tests register jobs of their own in the same process
            parts = ["maintenance" if job.maintenance else "application", f"{job.retry.attempts} attempts"]
            parts += [f"at {job.schedule}"] if job.schedule else []
            yield EntryPoint(f"JOB {name}", feature_of(module), "; ".join(parts))
    for name, body in STANDING.items():
        if body.__module__.startswith("service."):
            yield EntryPoint(f"LOOP {name}", feature_of(body.__module__), "in every worker")
    for name in WORKER_LOOPS:
        yield EntryPoint(f"LOOP {name}", "platform", "in every worker")


def _commands() -> Iterator[EntryPoint]:
    command = typer.main.get_command(cli)

    def walk(group: Any, before: str) -> Iterator[EntryPoint]:
        for name, inner in group.commands.items():
            if hasattr(inner, "commands"):
                yield from walk(inner, f"{before} {name}")
            else:
                owner = name if before == "" and name in FEATURES else "platform"
                yield EntryPoint(f"CLI{before} {name}", owner, "whoever has a shell and the settings")

    yield from walk(command, "")


def _mails() -> Iterator[EntryPoint]:
    load(FEATURES, "jobs")
    for template, letter in LETTERS.items():
        yield EntryPoint(f"MAIL {template}", template.split("/")[0], f"reach {letter.reach.name.lower()}")


def _listeners() -> Iterator[EntryPoint]:
    for name in LISTENERS:
        yield EntryPoint(f"LISTENER {name}", "platform", "uvicorn")


def _objects() -> Iterator[EntryPoint]:
    """Whoever reads what lies in the store: a function that calls a reading method of `Storage`."""
    for path in sorted((SERVICE / "features").rglob("*.py")):
        text = path.read_text()
        if "integrations.storage import" not in text:
            continue
        feature = path.relative_to(SERVICE / "features").parts[0]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(map(_reads_object, ast.walk(node))):
                yield EntryPoint(f"OBJECT {feature}.{node.name}", feature, "stored object")


def _reads_object(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in OBJECT_READS):
        return False
    receiver = ast.unparse(node.func.value)
    return receiver == "storage" or receiver.endswith(".get(Storage)")
