"""Rules about the text of the code: the few constructs that slip past a guard rail are named here."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from service import features
from service.catalog import load_tables
from service.core.env_example import env_example
from service.core.logging import hidden_names
from service.core.settings import Settings
from service.guardrails import rate_limits
from service.guardrails.rate_limits import Policy
from tests.architecture.conftest import ROOT, SERVICE, at_least

LIMIT_OF_LINES = 300
SHELVES, FEATURES = "service", "service/features"
BUDGETS = {SHELVES: 14_000, "service/guardrails": 6_700}
"""Lines of code, without the features: what everybody who clones this has to read (decision 0010)."""
LARGEST_FEATURES = {"billing": 3_900}
BUDGET_OF_A_FEATURE = 2_000
BUDGETS |= {f"{FEATURES}/{name}": LARGEST_FEATURES.get(name, BUDGET_OF_A_FEATURE) for name in features.FEATURES}
READABLE_SUFFIXES = (".py", ".md", ".sql", ".yml", ".yaml", ".html", ".txt", ".js", ".css", ".lua", ".toml")
OWN = SERVICE / "core" / "settings.py"
SETTINGS = 55


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def found_in(sources: dict[Path, ast.Module], matches: Callable[[ast.AST], bool]) -> list[str]:
    return [
        f"{shown(path)}:{getattr(node, 'lineno', 0)}"
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
    assert len(found) >= 48, f"the scan saw only {len(found)} files of features"
    return found


def test_nothing_is_logged_under_a_name_that_hides_it(sources: dict[Path, ast.Module]) -> None:
    """A column of people's words hides its name everywhere: why a webhook was refused read "[hidden]" at night."""
    load_tables()
    levels = ("debug", "info", "warning", "error", "exception")

    def hides(node: ast.AST) -> bool:
        logs = isinstance(node, ast.Call) and is_call_of(node, *levels) and ast.unparse(node.func).startswith("log.")
        return logs and any(str(word.arg).lower() in hidden_names for word in node.keywords)  # type: ignore[attr-defined]

    assert "reason" in hidden_names
    assert found_in(sources, hides) == []


def facts_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The names under which something is told the audit log: `ctx.note(..., name=)`, `ctx.facts |= {"name": ...}`."""
    for node in ast.walk(tree):
        told: list[ast.AST] = []
        if isinstance(node, ast.Call) and is_call_of(node, "note", "note_look"):
            yield from ((node.lineno, word.arg) for word in node.keywords if word.arg)
            told = [word.value for word in node.keywords if word.arg is None]
        elif isinstance(node, ast.Assign | ast.AugAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                place = target.value if isinstance(target, ast.Subscript) else target
                if not (isinstance(place, ast.Attribute) and place.attr == "facts"):
                    continue
                told = [node.value]
                if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                    yield node.lineno, str(target.slice.value)
        for part in (part for whole in told for part in ast.walk(whole) if isinstance(part, ast.Dict)):
            yield from ((node.lineno, str(key.value)) for key in part.keys if isinstance(key, ast.Constant))  # type: ignore[attr-defined]


def test_no_fact_of_the_log_has_a_name_that_hides_it(sources: dict[Path, ast.Module]) -> None:
    """A fact that is called like a classified column stands as "[hidden]" for ever; `reason` has its own."""
    load_tables()
    probe = """ctx.note("x", "done", email=1, about=2, **({"held": 3} if a else {}))
ctx.facts |= {"reason": 4, "url": 5} | ({"remark": 6} if b else {})
ctx.facts["subject"] = 7"""
    hidden = hidden_names - {"reason"}
    found = {name for _, name in facts_of(ast.parse(probe)) if name in hidden}
    assert found == {"email", "held", "url", "remark", "subject"}
    told = [(path, *fact) for path, tree in sources.items() for fact in facts_of(tree)]
    assert len(told) >= 130, f"the scan saw only {len(told)} facts"
    assert [f"{shown(path)}:{line} {name}" for path, line, name in told if name in hidden] == []


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
        f"{shown(path)}:{node.lineno}"
        for path, node in calls
        if not (isinstance(node.args[0], ast.Constant) and ":context_tenant" in str(node.args[0].value))
    ]
    assert not loose, f"{loose}: PreparedText gets no automatic filter; compare organization_id with :context_tenant"


def named_in_calls(sources: dict[Path, ast.Module], function: str) -> set[str]:
    """The names given to every call of `function`: `spend(resources, LOGIN)` names resources and LOGIN."""
    return {
        argument.id if isinstance(argument, ast.Name) else argument.attr
        for tree in sources.values()
        for call in ast.walk(tree)
        if is_call_of(call, function)
        for argument in getattr(call, "args", [])
        if isinstance(argument, (ast.Name, ast.Attribute))
    }


def limits() -> dict[str, Policy]:
    found = {name: policy for name, policy in vars(rate_limits).items() if isinstance(policy, Policy)}
    assert len(found) >= 10, f"the scan saw only {len(found)} policies in service/guardrails/rate_limits.py"
    return found


def test_what_a_limit_counts_besides_the_caller_is_counted_somewhere(sources: dict[Path, ast.Module]) -> None:
    """The door counts address, person and organization; a target is known to the action alone, which must `spend`."""
    targeted = {
        name for name, policy in limits().items() if policy.pair or policy.subject or policy.distinct or policy.everyone
    }
    assert len(targeted) >= 4
    forgotten = targeted - named_in_calls(sources, "spend")
    assert not forgotten, (
        f"{forgotten}: `await spend(ctx.resources, POLICY, subject=...)` in the action that it protects"
    )


def test_every_limit_is_used(sources: dict[Path, ast.Module]) -> None:
    """A limit on nothing reads like a protection and is none. Three are what `policy_of` gives by itself."""
    used = named_in_calls(sources, "spend") | named_in_calls(sources, "limit") | {"READ", "WRITE", "API"}
    idle = set(limits()) - used
    assert not idle, f"{sorted(idle)}: put @limit(POLICY) on the route it was made for, or delete the policy"


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


@pytest.fixture(scope="session")
def texts() -> dict[Path, str]:
    """Everything a reader of the repository may read."""
    folders = [ROOT / name for name in ("service", "infra", "migrations", "docs", "ops", "load", "tests", ".github")]
    found = {
        path: path.read_text() for folder in folders for path in folder.rglob("*") if path.suffix in READABLE_SUFFIXES
    }
    at_least("texts", len(found))
    return found


def test_nothing_left_for_later(texts: dict[Path, str]) -> None:
    marks = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented")
    ours = {path: text for path, text in texts.items() if SERVICE in path.parents}
    assert len(ours) >= 178, f"the scan saw only {len(ours)} files of the service"
    hits = [shown(path) for path, text in ours.items() if any(mark in text for mark in marks)]
    assert not hits, f"{hits}: finish it or leave it out"


def test_files_stay_readable(texts: dict[Path, str]) -> None:
    long = {
        shown(path): lines
        for path, text in texts.items()
        if SERVICE in path.parents and path.suffix == ".py" and (lines := len(text.splitlines())) > LIMIT_OF_LINES
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
def test_the_code_stays_small(folder: str, sources: dict[Path, ast.Module], texts: dict[Path, str]) -> None:
    inside = {path: tree for path, tree in sources.items() if ROOT / folder in path.parents}
    if folder == SHELVES:
        inside = {path: tree for path, tree in inside.items() if ROOT / FEATURES not in path.parents}
    lines = sum(lines_of_code(texts[path], tree) for path, tree in inside.items())
    assert 20 < lines <= BUDGETS[folder], f"{folder} has {lines} lines; people must be able to read what they clone"


def test_env_example_equals_the_settings() -> None:
    assert len(Settings.model_fields) >= SETTINGS, f"the scan saw only {len(Settings.model_fields)} settings"
    assert (ROOT / ".env.example").read_text() == env_example(), "run `python -m service settings > .env.example`"


def test_every_setting_is_read_somewhere(texts: dict[Path, str]) -> None:
    """A setting that nobody reads is a promise nobody keeps."""
    readers = {path for path in texts if path.suffix == ".py" and SERVICE in path.parents}
    text = "\n".join(texts[path] for path in [*readers - {OWN}, ROOT / "migrations" / "env.py"])
    own_uses = texts[OWN].split("def refuse_insecure_production", 1)[1]
    idle = [name for name in Settings.model_fields if f".{name}" not in text and f".{name}" not in own_uses]
    assert not idle, f"{idle}: use it or remove it"


def test_the_project_speaks_of_itself_alone(texts: dict[Path, str]) -> None:
    """No path of a developer's machine and no internal note reaches a reader."""
    hits = [shown(path) for path, text in texts.items() if "/wo" + "rk/" in text or "/ro" + "ot/" in text]
    assert not hits, f"{hits}: names a path of one machine"


FEATURE = SERVICE / "features" / "probe" / "queries.py"


@pytest.mark.parametrize(
    ("rule", "snippet", "sentence"),
    [
        (test_features_do_not_step_around_the_automatic_filters, "Thing.__table__", "use select() with the model"),
        (test_features_do_not_step_around_the_automatic_filters, "ctx.db.get(Thing, 1)", "use select() with the model"),
        (test_features_do_not_step_around_the_automatic_filters, "select(Thing).from_statement(x)", "use select()"),
        (test_hand_written_sql_names_its_tenant, "PreparedText('SELECT 1')", "PreparedText gets no automatic filter"),
        (test_nobody_commits_by_hand, "await ctx.db.commit()", "the unit of work commits"),
        (test_time_is_read_in_one_place, "datetime.now()", "use service.core.clock.now()"),
        (test_nothing_pages_by_offset, "select(Thing).offset(20)", "page by key"),
    ],
)
def test_each_rule_about_code_bites(
    rule: Callable[[dict[Path, ast.Module]], None], snippet: str, sentence: str, sources: dict[Path, ast.Module]
) -> None:
    probe = ast.parse(f"async def probe(ctx): {snippet}")
    with pytest.raises(AssertionError, match=re.escape(f"['service/features/probe/queries.py:1']: {sentence}")):
        rule({**sources, FEATURE: probe})


@pytest.mark.parametrize(
    ("rule", "text", "sentence"),
    [
        (test_nothing_left_for_later, "# TO" + "DO: later", "finish it or leave it out"),
        (test_files_stay_readable, "x = 1\n" * 301, "make it a package"),
        (test_the_project_speaks_of_itself_alone, "see /wo" + "rk/notes", "names a path of one machine"),
    ],
)
def test_each_rule_about_texts_bites(
    rule: Callable[[dict[Path, str]], None], text: str, sentence: str, texts: dict[Path, str]
) -> None:
    with pytest.raises(AssertionError, match=f"probe/queries.py.*{sentence}"):
        rule({**texts, FEATURE: text})


@pytest.mark.parametrize("folder", BUDGETS)
def test_too_much_code_is_found(folder: str, sources: dict[Path, ast.Module], texts: dict[Path, str]) -> None:
    big = "x = 1\n" * BUDGETS[folder]
    here = ROOT / folder / "probe.py"
    with pytest.raises(AssertionError, match="people must be able to read"):
        test_the_code_stays_small(folder, {**sources, here: ast.parse(big)}, {**texts, here: big})


def test_an_idle_limit_and_one_that_nobody_counts_are_found(
    sources: dict[Path, ast.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "PROBE", Policy("probe", "open", subject="1/hour"), raising=False)
    with pytest.raises(AssertionError, match=r"\['PROBE'\]: put @limit"):
        test_every_limit_is_used(sources)
    with pytest.raises(AssertionError, match=r"{'PROBE'}: `await spend"):
        test_what_a_limit_counts_besides_the_caller_is_counted_somewhere(sources)


def test_an_idle_setting_and_an_old_example_are_found(texts: dict[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Settings.model_fields, "probe_of_the_rule", FieldInfo(annotation=int, default=1))
    with pytest.raises(AssertionError, match=r"probe_of_the_rule.*use it or remove it"):
        test_every_setting_is_read_somewhere(texts)
    with pytest.raises(AssertionError, match="python -m service settings"):
        test_env_example_equals_the_settings()
