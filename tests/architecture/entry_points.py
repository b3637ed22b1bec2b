"""Every way into the service: routes, plain routes, jobs, loops, commands, mails, listeners, reads of stored objects.

The threat model has a row for each (docs/threats), and what the code already says about one is read here, not typed.
"""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import typer.main
from fastapi import FastAPI
from starlette.routing import Host, Mount, WebSocketRoute

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

STARTS = ("create_task", "ensure_future", "start_soon", "Thread", "Timer")
"""What goes on by itself once it was called."""
NO_LOOPS = {
    "core/telemetry.py: asyncio.to_thread": "sends the last spans and ends",
    "features/billing/flows/synchronize.py: synchronize": "one customer, of LOOP billing-synchronizer",
    "features/files/flows/look.py: one_by_one": "ends with the files it looks at, of LOOP files-look",
    "features/sources/flows/schedule.py: pull": "one source, of LOOP sources",
    "features/webhooks/flows/deliver.py: deliver": "one delivery, of LOOP webhook-deliveries",
    "guardrails/jobs/consumer.py: .run": "the queue: each job has its row",
    "guardrails/jobs/consumer.py: stop.wait": "the word to stop",
    "worker.py: _Probes.serve": "LISTENER worker._Probes",
    "worker.py: _finish": "waits until the others have ended",
    "worker.py: _stand": "a loop that a feature registered: it has its row by its own name",
}
"""What is started and needs no row of its own, and why."""
LISTENS = (
    "run", "Config", "start_server", "start_unix_server", "create_server", "create_unix_server",
    "create_datagram_endpoint", "start_http_server", "start_wsgi_server", "make_server", "HTTPServer",
    "ThreadingHTTPServer", "TCPServer", "UDPServer", "listen",
)  # fmt: skip
"""What opens a port; `run`, `Config` and `listen` mean so only of a server, or of a socket."""
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
        if isinstance(context.original_route, WebSocketRoute):
            yield EntryPoint(f"SOCKET {context.path}", "platform", "no context")
            continue
        owner = feature_of(getattr(context.endpoint, "__module__", ""))
        for method in sorted((context.methods or {"GET"}) - {"HEAD"}):
            yield EntryPoint(f"{method} {context.path}", owner, "no context")
    for route in app.routes:  # whoever walks the tree does not see a whole application behind a name of its own
        if isinstance(route, Host):
            yield EntryPoint(f"HOST {route.host}", "platform", "no context")


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
    for name in loops(sources()):
        yield EntryPoint(f"LOOP {name}", "platform", "in the background")


Sources = dict[str, ast.Module]


@cache
def _parsed() -> tuple[tuple[str, ast.Module], ...]:
    return tuple((str(one.relative_to(SERVICE)), ast.parse(one.read_text())) for one in sorted(SERVICE.rglob("*.py")))


def sources() -> Sources:
    return dict(_parsed())


def loops(files: Sources) -> list[str]:
    return sorted({name for path, name in started(files) if f"{path}: {name}" not in NO_LOOPS})


def started(files: Sources) -> list[tuple[str, str]]:
    """(file, what it starts) for each task, thread or process; a `_repeat("name", ...)` is called by its name."""
    return [
        (path, _what(node))
        for path, tree in files.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and called(node).rpartition(".")[2] in STARTS
    ]


def _what(start: ast.Call) -> str:
    target = next((one.value for one in start.keywords if one.arg == "target"), None) or next(iter(start.args), start)
    if not isinstance(target, ast.Call):
        return ast.unparse(target)
    named = target.args[0] if target.args else None
    if called(target) == "_repeat" and isinstance(named, ast.Constant):
        return str(named.value)
    return called(target)


def called(node: ast.Call) -> str:
    """`a.b` of `a.b(...)`, `A.b` of `A(...).b(...)`."""
    return re.sub(r"\(.*\)", "", ast.unparse(node.func), flags=re.DOTALL)


def listeners(files: Sources) -> list[str]:
    """file.function, or file.Class, of each call that opens a port."""
    found = []
    for path, tree in files.items():
        for top in tree.body:
            for node in ast.walk(top):
                if isinstance(node, ast.Call) and _listens(called(node)):
                    stem = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                    found.append(f"{stem}.{getattr(top, 'name', '')}")
    return sorted(set(found))


def _listens(name: str) -> bool:
    receiver, _, verb = name.rpartition(".")
    if verb in ("run", "Config"):
        return receiver in ("uvicorn", "hypercorn", "granian", "web")
    return verb in LISTENS and not (verb == "listen" and receiver == "event")


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
    for name in listeners(sources()):
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
