"""Every public function of actions and queries goes through its door, and the doors are what we reviewed."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType

import pytest

from service.core.features import FILE_NAMES, load
from service.features import FEATURES
from service.guardrails.actions import Rule
from service.guardrails.permissions import Role
from tests.architecture.conftest import SERVICE, at_least

REVIEWED = Path(__file__).parent / "permissions.txt"
NOT_A_DOOR = {
    "organizations.queries.identify": "runs before there is a context: it makes the identity",
    "organizations.queries.look_up_region": "guardrails.residency asks it, for whatever acts for the organization",
}


def public_functions(module: ModuleType) -> list[tuple[str, object]]:
    """Coroutines defined in the module (or in the files of the package it became)."""
    return [
        (name, thing)
        for name, thing in vars(module).items()
        if inspect.iscoroutinefunction(thing)
        and not name.startswith("_")
        and thing.__module__.startswith(module.__name__)
    ]


def undecorated(feature: str, file_name: str, module: ModuleType) -> list[str]:
    return [
        f"{feature}.{file_name}.{name}"
        for name, thing in public_functions(module)
        if not hasattr(thing, "rule") and f"{feature}.{file_name}.{name}" not in NOT_A_DOOR
    ]


@pytest.mark.parametrize(("file_name", "least"), [("actions", 45), ("queries", 25)])
def test_every_public_function_is_an_action_or_a_query(file_name: str, least: int) -> None:
    offenders, seen = [], 0
    for feature, module in load(FEATURES, file_name):
        seen += len(public_functions(module))
        offenders += undecorated(feature, file_name, module)
    assert seen >= least, f"the scan saw only {seen} functions in {file_name}"
    assert not offenders, (
        f"{offenders}: decorate with @action(name, requires=...) or @query(...), or begin the name with an underscore; "
        "an undecorated one has no permission check, no audit row and no trace"
    )


def test_an_undecorated_function_is_found() -> None:
    probe = ModuleType("probe")
    exec("async def forgotten(ctx): ...", probe.__dict__)
    probe.__dict__["forgotten"].__module__ = "probe"
    assert undecorated("probe", "actions", probe) == ["probe.actions.forgotten"]


def rules_of_features() -> dict[str, Rule]:
    """The rules as the loaded features declare them; tests register rules of their own in the same process."""
    found: dict[str, Rule] = {}
    for file_name in ("actions", "queries"):
        for _, module in load(FEATURES, file_name):
            found |= {
                thing.rule.name: thing.rule
                for thing in vars(module).values()
                if isinstance(getattr(thing, "rule", None), Rule)
            }
    at_least("rules", len(found))
    return found


def line(rule: Rule) -> str:
    requires = rule.requires.label if isinstance(rule.requires, Role) else rule.requires.value
    known = {
        "step-up": rule.step_up,
        "while-read-only": rule.while_read_only,
        "while-unpaid": rule.while_unpaid,
        "while-impersonated": rule.writes and rule.while_impersonated,
        "not-while-impersonated": not rule.writes and not rule.while_impersonated,
    }
    marks = [mark for mark, on in known.items() if on]
    return " ".join([f"{rule.name:40} {'write' if rule.writes else 'read':5} {requires}", *marks]).rstrip()


def test_permissions_equal_the_reviewed_file() -> None:
    """Who may do what, one line each. `python -m tests.architecture.test_actions` writes the file anew."""
    now = {line(rule) for rule in rules_of_features().values()}
    reviewed = set(REVIEWED.read_text().splitlines())
    assert now == reviewed, (
        f"only in the code: {sorted(now - reviewed)}; only in the file: {sorted(reviewed - now)}. "
        "If the change is meant: `python -m tests.architecture.test_actions` and have the diff reviewed"
    )


def test_names_say_the_feature() -> None:
    strangers = [name for name in rules_of_features() if name.split(".")[0] not in FEATURES]
    assert not strangers, f"{strangers}: an action is called <feature>.<verb>; the audit log is searched by it"


def test_features_have_only_the_agreed_files() -> None:
    """A reader guesses every file name; what does not fit one of them belongs to another shelf."""
    strangers = []
    for feature in FEATURES:
        for path in (SERVICE / "features" / feature).iterdir():
            known = path.stem in (*FILE_NAMES, "__init__", "templates", "__pycache__")
            if not known:
                strangers.append(str(path.relative_to(SERVICE)))
    assert not strangers, f"{strangers}: a feature's files are {', '.join(FILE_NAMES)} and templates/"


if __name__ == "__main__":
    rules = rules_of_features()
    REVIEWED.write_text("".join(f"{line(rules[name])}\n" for name in sorted(rules)))
