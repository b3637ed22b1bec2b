"""Rules about the text of the code: the few constructs that slip past a guard rail are named here."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.core.settings import Settings, env_example
from service.guardrails import rate_limits
from service.guardrails.rate_limits import Policy
from tests.architecture.conftest import ROOT, SERVICE

LIMIT_OF_LINES = 300
BUDGETS = {"service": 10_000, "service/guardrails": 3_000}


def found_in(sources: dict[Path, ast.Module], matches: Callable[[ast.AST], bool]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        for path, tree in sources.items()
        for node in ast.walk(tree)
        if matches(node)
    ]


def is_call_of(node: ast.AST, *names: str) -> bool:
    if not isinstance(node, ast.Call):
        return False
    function = node.func
    return (function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")) in names


def features_only(sources: dict[Path, ast.Module]) -> dict[Path, ast.Module]:
    found = {path: tree for path, tree in sources.items() if SERVICE / "features" in path.parents}
    assert len(found) >= 30
    return found


def test_features_do_not_step_around_the_automatic_filters(sources: dict[Path, ast.Module]) -> None:
    """`text()`, `from_statement`, `__table__` and `session.get` are not filtered by tenant or deletion."""

    def steps_around(node: ast.AST) -> bool:
        if isinstance(node, ast.Attribute) and node.attr in ("__table__", "from_statement"):
            return True
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get"):
            return False
        owner = node.func.value
        return isinstance(owner, ast.Attribute) and owner.attr in ("db", "session")

    hits = found_in(features_only(sources), steps_around)
    assert not hits, f"{hits}: use select() with the model, or ctx.get(Model, id)"


def hand_written(sources: dict[Path, ast.Module]) -> Iterator[tuple[Path, ast.Call]]:
    for path, tree in sources.items():
        for node in ast.walk(tree):
            if is_call_of(node, "PreparedText"):
                assert isinstance(node, ast.Call)
                yield path, node


def test_hand_written_sql_names_its_tenant(sources: dict[Path, ast.Module]) -> None:
    calls = list(hand_written(features_only(sources)))
    assert len(calls) >= 2
    loose = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, node in calls
        if not (isinstance(node.args[0], ast.Constant) and ":context_tenant" in str(node.args[0].value))
    ]
    assert not loose, f"{loose}: PreparedText gets no automatic filter; compare organization_id with :context_tenant"


def test_what_a_limit_counts_besides_the_caller_is_counted_somewhere(sources: dict[Path, ast.Module]) -> None:
    """The door counts address, person and organization; a target is known to the action alone, which must `spend`."""
    spending = {node for tree in sources.values() for node in ast.walk(tree) if is_call_of(node, "spend")}
    spent = {
        argument.id if isinstance(argument, ast.Name) else argument.attr
        for call in spending
        for argument in getattr(call, "args", [])
        if isinstance(argument, (ast.Name, ast.Attribute))
    }
    targeted = {
        name
        for name, policy in vars(rate_limits).items()
        if isinstance(policy, Policy) and (policy.pair or policy.subject or policy.distinct or policy.everyone)
    }
    assert len(targeted) >= 4
    forgotten = targeted - spent
    assert not forgotten, (
        f"{forgotten}: `await spend(ctx.resources, POLICY, subject=...)` in the action that it protects"
    )


def test_nobody_commits_by_hand(sources: dict[Path, ast.Module]) -> None:
    """One unit of work per request or job; a commit in the middle makes a story that can stop half-way."""
    hits = found_in(features_only(sources), lambda node: is_call_of(node, "commit", "rollback"))
    assert not hits, f"{hits}: the unit of work commits when the request or job ends"


def test_time_is_read_in_one_place(sources: dict[Path, ast.Module]) -> None:
    def reads_time(node: ast.AST) -> bool:
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            return False
        owner = node.func.value
        known = isinstance(owner, ast.Name) and owner.id in ("datetime", "date")
        return known and node.func.attr in ("now", "utcnow", "today")

    others = {path: tree for path, tree in sources.items() if path.name != "clock.py"}
    hits = found_in(others, reads_time)
    assert not hits, f"{hits}: use service.core.clock.now(), which tests can move"


def test_nothing_pages_by_offset(sources: dict[Path, ast.Module]) -> None:
    hits = found_in(sources, lambda node: is_call_of(node, "offset"))
    assert not hits, f"{hits}: page by key (guardrails/pagination.py); OFFSET reads what it skips"


def test_nothing_left_for_later() -> None:
    marks = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented")
    files = [path for path in SERVICE.rglob("*") if path.suffix in (".py", ".html", ".sql", ".js", ".css")]
    assert len(files) >= 100
    hits = [f"{path.relative_to(ROOT)}" for path in files if any(mark in path.read_text() for mark in marks)]
    assert not hits, f"{hits}: finish it or leave it out"


def test_files_stay_readable(sources: dict[Path, ast.Module]) -> None:
    long = {
        str(path.relative_to(ROOT)): lines for path in sources if (lines := len(path.read_text().splitlines())) > 300
    }
    assert not long, f"{long}: more than {LIMIT_OF_LINES} lines is more than one idea; make it a package"


def lines_of_code(source: str, tree: ast.Module) -> int:
    """Lines that do something: explaining is free, so nobody saves on docstrings, comments and blank lines."""
    texts = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    return sum(
        1
        for number, line in enumerate(source.splitlines(), 1)
        if line.strip() and not line.strip().startswith("#") and number not in texts
    )


@pytest.mark.parametrize("folder", BUDGETS)
def test_the_code_stays_small(folder: str, sources: dict[Path, ast.Module]) -> None:
    inside = {path: tree for path, tree in sources.items() if ROOT / folder in path.parents}
    lines = sum(lines_of_code(path.read_text(), tree) for path, tree in inside.items())
    assert 500 < lines <= BUDGETS[folder], f"{folder} has {lines} lines; people must be able to read what they clone"


def test_env_example_equals_the_settings() -> None:
    assert len(Settings.model_fields) >= 30
    assert (ROOT / ".env.example").read_text() == env_example(), "run `python -m service settings > .env.example`"


def test_every_setting_is_read_somewhere(sources: dict[Path, ast.Module]) -> None:
    """A setting that nobody reads is a promise nobody keeps."""
    text = "\n".join(
        path.read_text() for path in [*sources, ROOT / "migrations" / "env.py"] if path.name != "settings.py"
    )
    own = (SERVICE / "core" / "settings.py").read_text()
    own_uses = own.split("def refuse_insecure_production", 1)[1]
    idle = [name for name in Settings.model_fields if f".{name}" not in text and f".{name}" not in own_uses]
    assert not idle, f"{idle}: use it or remove it"


def test_the_project_speaks_of_itself_alone() -> None:
    """No path of a developer's machine and no internal note reaches a reader."""
    folders = [ROOT / name for name in ("service", "infra", "migrations", "docs", "ops", "load", "tests", ".github")]
    files = [
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix in (".py", ".md", ".sql", ".yml", ".yaml", ".html", ".txt")
    ]
    assert len(files) >= 150
    hits = [
        str(path.relative_to(ROOT))
        for path in files
        if "/wo" + "rk/" in path.read_text() or "/ro" + "ot/" in path.read_text()
    ]
    assert not hits, f"{hits}: names a path of one machine"
