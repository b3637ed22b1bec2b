"""The threat model against the code: a row for each way in, and each row names what stands against its abuses.

`python -m tests.architecture.test_threats` prints a stub for each missing row, ready to fill, and the debt; with
`--write` it writes the `policy` lines anew from the code.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from pydantic import SecretStr

from service.core.settings import Settings, get_settings
from service.guardrails.contexts import PublicCtx
from service.guardrails.personal_data import Protection
from tests.architecture.entry_points import (
    NO_LOOPS,
    EntryPoint,
    entry_points,
    known_tests,
    listeners,
    loops,
    sources,
    started,
)
from tests.architecture.test_role_matrix import cells

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "threats"
NO_ROWS = ("controls.toml", "leaks.toml")
ROWS, CASES, CONTROLS, DEBT = 450, 580, 115, 0
"""How much there was when this was set; the debt, cases that no test stands against, may only fall."""
LETTERS = "STRIDE"
BLAST = ("row", "user", "tenant", "all")
CASE = re.compile(r"^(?P<sentence>.{15,}) \[(?P<controls>[a-z0-9, -]*)\]$")
ROLES = ("ballast_app", "ballast_maintenance", "ballast_owner")
HANDED_OUT = ("a session's cookie", "an API key", "a mailed link", "a webhook's secret", "a download's link")
LEAK = ("reads", "writes", "revoked", "within", "test")


@dataclass(frozen=True)
class Control:
    sentence: str
    file: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One way in: what is at stake, and what an attacker would do here."""

    name: str
    file: str
    policy: str
    asset: str
    actors: tuple[str, ...]
    data: tuple[str, ...]
    blast: str
    cases: tuple[tuple[str, str, tuple[str, ...]], ...] = field(default=())


@cache
def controls() -> dict[str, Control]:
    found = tomllib.loads((FOLDER / "controls.toml").read_text())
    return {name: Control(one["sentence"], one["file"], tuple(one["tests"])) for name, one in found.items()}


def rows_of(name: str, text: str) -> list[Row]:
    """The rows of one file; what stands above the first holds for all that do not say otherwise."""
    said = tomllib.loads(text)
    usual = {key: value for key, value in said.items() if not isinstance(value, dict)}
    found = []
    for entry, own in said.items():
        if isinstance(own, dict):
            told: dict[str, Any] = {**usual, **own}
            cases = []
            for letter in LETTERS:
                for case in told.get(letter, ()):
                    match = CASE.match(case)
                    assert match, f"{name}, {entry}: {case!r}: a sentence, then the controls in square brackets"
                    names = tuple(one.strip() for one in match["controls"].split(",") if one.strip())
                    cases.append((letter, match["sentence"], names))
            strange = set(own) - {"policy", "asset", "actors", "data", "blast", *LETTERS}
            assert not strange, f"{name}, {entry}: {strange}"
            lists = tuple(told["actors"]), tuple(told["data"])
            row = Row(entry, name, told.get("policy", ""), told["asset"], *lists, told["blast"], tuple(cases))
            found.append(row)
    return found


@cache
def rows() -> dict[str, Row]:
    found: dict[str, Row] = {}
    for path in sorted(FOLDER.glob("*.toml")):
        if path.name not in NO_ROWS:
            for row in rows_of(path.name, path.read_text()):
                assert row.name not in found, f"{row.name} has two rows"
                found[row.name] = row
    return found


def stub(point: EntryPoint) -> str:
    return f'# docs/threats/{point.owner}.toml\n["{point.name}"]\npolicy = "{point.policy}"\nT = [\n    "... []",\n]\n'


def gaps(points: dict[str, EntryPoint], written: dict[str, Row]) -> list[str]:
    missing = [stub(points[name]) for name in sorted(set(points) - set(written))]
    stale = [f"{written[name].file}: {name} is no way in any more" for name in sorted(set(written) - set(points))]
    return missing + stale


def test_every_way_in_has_a_row_and_every_row_a_way_in(app: FastAPI) -> None:
    points = entry_points(app)
    assert len(points) >= ROWS, f"the scan saw only {len(points)} ways in"
    found = gaps(points, rows())
    assert not found, (
        "what would an attacker do here, and what stands against it? Write it down (docs/threats/README.md), two "
        "minutes each:\n" + "\n".join(found)
    )


def test_a_route_inside_an_included_router_is_missed(app: FastAPI) -> None:
    probe, outer = APIRouter(), FastAPI()

    @probe.get("/probe")
    async def forgotten(ctx: PublicCtx) -> None: ...

    outer.include_router(probe, prefix="/inner")
    found = gaps(entry_points(outer), rows())
    assert any('["GET /inner/probe"]' in one and 'policy = "public; limit read"' in one for one in found)


def test_a_new_loop_a_new_port_and_a_door_without_routes_are_missed() -> None:
    """What no registry tells is read from the text: each of these is started or opened in one line, anywhere."""
    lines = {
        "asyncio.create_task(sweep(resources))": "LOOP sweep",
        "asyncio.create_task(_repeat('sweep', work, 5))": "LOOP sweep",
        "group.create_task(Sweeper(resources).go())": "LOOP Sweeper.go",
        "threading.Thread(target=sweep, daemon=True).start()": "LOOP sweep",
        "uvicorn.run(app, port=9)": "LISTENER features.probe.begin",
        "uvicorn.Server(uvicorn.Config(app))": "LISTENER features.probe.begin",
        "await asyncio.start_server(talk, port=9)": "LISTENER features.probe.begin",
        "start_http_server(9)": "LISTENER features.probe.begin",
    }
    for line, wanted in lines.items():
        files = {**sources(), "features/probe.py": ast.parse(f"async def begin(group):\n    {line}\n")}
        found = {f"LOOP {one}" for one in loops(files)} | {f"LISTENER {one}" for one in listeners(files)}
        assert {one for one in found if one not in rows()} == {wanted}, line
    known = {f"{path}: {name}" for path, name in started(sources())}
    assert set(NO_LOOPS) <= known, f"{set(NO_LOOPS) - known} is started no more"


def test_a_socket_a_mounted_application_and_one_behind_another_name_are_missed() -> None:
    probe = FastAPI()

    @probe.websocket("/probe")
    async def forgotten(socket: WebSocket) -> None: ...

    probe.mount("/inner", FastAPI())
    probe.host("probe.example", FastAPI())
    found = "".join(gaps(entry_points(probe), rows()))
    for wanted in ("SOCKET /probe", "MOUNT /inner", "HOST probe.example"):
        assert f'["{wanted}"]' in found, wanted


def test_what_a_row_says_of_the_policy_is_what_the_code_does(app: FastAPI) -> None:
    points = entry_points(app)
    wrong = {
        name: f"the code says {point.policy!r}, the row {rows()[name].policy!r}"
        for name, point in points.items()
        if name in rows() and rows()[name].policy != point.policy
    }
    assert not wrong, f"{wrong}: if that is meant, `python -m tests.architecture.test_threats --write` and review it"


def complaints(row: Row, known: dict[str, Control]) -> list[str]:
    found = []
    if not row.cases:
        found.append("no abuse at all")
    if row.blast not in BLAST:
        found.append(f"blast {row.blast!r} is none of {BLAST}")
    if strange := set(row.data) - set(Protection):
        found.append(f"data {strange} is no class of guardrails.personal_data")
    if not (row.asset and row.actors):
        found.append("no asset or no actors")
    for letter, sentence, names in row.cases:
        if strange := set(names) - set(known):
            found.append(f"{letter}: {strange} is no control")
        if sentence.startswith("..."):
            found.append(f"{letter}: a stub")
    return [f"{row.file}, {row.name}: {one}" for one in found]


def test_each_row_names_controls_that_exist() -> None:
    found = [one for row in rows().values() for one in complaints(row, controls())]
    assert not found, found
    assert sum(len(row.cases) for row in rows().values()) >= CASES
    sentences = [sentence for row in rows().values() for _, sentence, _ in row.cases]
    assert len(set(sentences)) >= 0.85 * len(sentences), "what would an attacker do HERE? The same words fit anywhere"


def test_each_control_has_a_file_and_tests_and_is_used() -> None:
    known = controls()
    assert len(known) >= CONTROLS
    lost = {name: one.file for name, one in known.items() if not (ROOT / one.file).exists()}
    assert not lost, f"{lost}: the file that implements a control"
    gone = {f"{name}: {test}" for name, one in known.items() for test in one.tests if test not in known_tests()}
    assert not gone, f"{gone}: name a test that is collected"
    used = {name for row in rows().values() for _, _, names in row.cases for name in names}
    assert not set(known) - used, f"{set(known) - used}: nothing is held against an abuse by it"


def debt() -> list[str]:
    known = controls()
    return [
        f"{row.name}: {letter}: {sentence}"
        for row in rows().values()
        for letter, sentence, names in row.cases
        if not any(known[name].tests for name in names if name in known)
    ]


def test_the_debt_only_falls() -> None:
    assert len(debt()) <= DEBT, f"{debt()}: name a control that a test proves, or write the test"


ANSWERS = {"public": ("yes", "404", "no"), "key": ("login",), "user": ("login",), "organization": ("login",)}


def test_the_role_matrix_says_over_http_what_the_row_declares() -> None:
    """Who gets in was asked of the running service for each route; here it is compared with the row's first word."""
    asked, wrong = cells(), {}
    for name, who in asked.items():
        if name not in rows():
            continue  # the two other tests say so
        context = rows()[name].policy.partition(";")[0]
        if context in ANSWERS and who["anonymous"] not in ANSWERS[context]:
            wrong[name] = f"{context}, and anonymous={who['anonymous']}"
        if context == "staff" and {who[one] for one in ("stranger", "viewer", "owner")} & {"yes", "confirm"}:
            wrong[name] = f"staff, and {who}"
    assert len(asked) >= 280
    assert not wrong, wrong


def secrets() -> set[str]:
    fields = Settings.model_fields.items()
    return {name.upper() for name, one in fields if SecretStr.__name__ in str(one.annotation)}


def leaks() -> dict[str, dict[str, str]]:
    return tomllib.loads((FOLDER / "leaks.toml").read_text())


def test_for_each_secret_and_role_somebody_thought_of_its_loss() -> None:
    wanted, written = secrets() | set(ROLES) | set(HANDED_OUT), leaks()
    assert len(secrets()) >= 14, f"the scan saw only {secrets()}"
    assert set(written) == wanted, (
        f"missing: {sorted(wanted - set(written))}; gone: {sorted(set(written) - wanted)}. Say in leaks.toml "
        "what a thief can read and write with it, how it is revoked, and in how long"
    )
    hollow = {name: [part for part in LEAK if not one.get(part)] for name, one in written.items()}
    assert not {name for name, parts in hollow.items() if parts}, hollow
    gone = {f"{name}: {one['test']}" for name, one in written.items() if one["test"] not in known_tests()}
    assert not gone, gone


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('T = ["does something quite specific here [no-such]"]', "is no control"),
        ('T = ["... and so on, for want of time []"]', "a stub"),
        ('blast = "world"\nT = ["does something quite specific here [tenancy]"]', "blast"),
        ('data = ["cards"]\nT = ["does something quite specific here [tenancy]"]', "no class"),
        ("", "no abuse at all"),
    ],
)
def test_a_row_that_says_nothing_is_found(text: str, complaint: str) -> None:
    usual = 'asset = "a"\nactors = ["b"]\ndata = ["content"]\nblast = "tenant"\n'
    [row] = rows_of("probe.toml", f'{usual}\n["GET /probe"]\n{text}\n')
    assert any(complaint in one for one in complaints(row, controls()))


def write(points: dict[str, EntryPoint]) -> None:
    for path in sorted(FOLDER.glob("*.toml")):
        here, lines = "", []
        for line in path.read_text().splitlines(keepends=True):
            if match := re.match(r'\["(.+)"\]', line):
                here = match[1]
            if line.startswith("policy = ") and here in points:
                line = f'policy = "{points[here].policy}"\n'
            lines.append(line)
        path.write_text("".join(lines))


if __name__ == "__main__":
    from service.app import build
    from service.catalog import load_tables

    load_tables()
    there = entry_points(build(get_settings()))
    if "--write" in sys.argv:
        write(there)
        rows.cache_clear()
    print("\n".join(gaps(there, rows())))
    count = sum(len(row.cases) for row in rows().values())
    print(f"{len(there)} ways in, {len(rows())} rows, {count} abuses, {len(controls())} controls, debt {len(debt())}")
