"""`python -m service evidence --out DIR`: what an auditor of the controls (SOC 2) asks for, as dated files.

Made from the running code and database, not from what somebody remembers; asks nobody outside. No value of a setting,
no secret and no personal column is written: names, counts, ids, times, and the reasons that staff gave as they wrote
them; so whoever hands it over reads staff-acts.csv first.
"""

from __future__ import annotations

import ast
import csv
import json
import tomllib
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from importlib.metadata import distributions
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

from service.core import clock
from service.core.database import Database
from service.core.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DAYS, BATCH = 400, 2_000
"""How far back what happened is told: a year, and the weeks in which somebody gets round to asking."""
DEEDS = """
    SELECT id, at, actor_kind, actor_id, on_behalf_of, organization_id, action, outcome, reason FROM audit_log
    WHERE id > $1 ORDER BY id LIMIT $2
"""
LOOKS = "SELECT checked_at, sealed_until, segments, rows, problems FROM audit_checks ORDER BY checked_at DESC LIMIT 400"


async def collect(settings: Settings, maintenance: Database, out: Path) -> list[str]:
    """Write every part into `out`, and a list of them with their SHA-256; answers their names."""
    parts = {
        "settings.json": _json(_settings(settings)),
        "permissions.csv": _csv(("name", "requires", "writes", "step_up"), _permissions()),
        "routes.csv": _csv(("method", "path", "who", "limit"), _routes(settings)),
        "data-map.csv": _data_map(),
        "dependencies.json": _json(_dependencies()),
        "documents.json": _json(_documents()),
        "tests.csv": _csv(("file", "test"), _tests()),
        "database.json": _json(await _database(settings, maintenance)),
        "staff-acts.csv": _csv(tuple(STAFF), [row async for row in _deeds(maintenance)]),
    }
    out.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - a command, alone in its process
    for name, text in parts.items():
        (out / name).write_text(text)
    listed = {name: sha256(text.encode()).hexdigest() for name, text in parts.items()}
    made = {"made_at": clock.now().isoformat(), "revision": settings.revision, "files": listed}
    (out / "contents.json").write_text(_json(made))
    return [*parts, "contents.json"]


STAFF = ("id", "at", "actor_kind", "actor_id", "on_behalf_of", "organization_id", "action", "outcome", "reason")


def _settings(settings: Settings) -> dict[str, Any]:
    from service.core.insecurities import insecurities

    given = {
        name.upper(): "given" if name in settings.model_fields_set else "default" for name in Settings.model_fields
    }
    return {
        "environment": settings.environment,
        "regions": [*settings.places],
        "refused in production": sorted({name for name, _ in insecurities(settings)}),
        "settings": given,
    }


def _permissions() -> Iterator[tuple[object, ...]]:
    from service.core.features import load
    from service.features import FEATURES
    from service.guardrails.actions import RULES

    for kind in ("actions", "queries"):
        load(FEATURES, kind)
    for name, rule in sorted(RULES.items()):
        requires = getattr(rule.requires, "label", rule.requires)
        yield name, str(requires), rule.writes, rule.step_up


def _routes(settings: Settings) -> Iterator[tuple[object, ...]]:
    from fastapi.routing import APIRoute

    from service.app import build
    from service.guardrails.contexts import POLICIES
    from service.guardrails.rate_limits import policy_of

    for route in build(settings).routes:
        if isinstance(route, APIRoute):
            [who] = [POLICIES[one.call] for one in route.dependant.dependencies if one.call in POLICIES]
            for method in sorted(route.methods or ()):
                yield method, route.path, who, policy_of(route.endpoint, method).name


def _data_map() -> str:
    from service.catalog import load_tables
    from service.guardrails.data_map import record

    return record.as_csv(load_tables())


def _dependencies() -> dict[str, Any]:
    """What is installed here, as a bill of materials (CycloneDX 1.5)."""
    found = {one.metadata["Name"]: one.version for one in distributions()}
    listed = [
        {"type": "library", "name": name, "version": version, "purl": f"pkg:pypi/{name.lower()}@{version}"}
        for name, version in sorted(found.items())
    ]
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": listed}


def _documents() -> dict[str, Any]:
    """The written side: each page by its hash, what the verification standard and the threat model count."""
    folder = ROOT / "docs"
    pages = {
        str(page.relative_to(ROOT)): sha256(page.read_bytes()).hexdigest() for page in sorted(folder.rglob("*.md"))
    }
    threats = {
        page.stem: sum(isinstance(row, dict) for row in tomllib.loads(page.read_text()).values())
        for page in sorted((folder / "threats").glob("*.toml"))
    }
    standard = folder / "compliance" / "asvs.csv"
    rows = list(csv.DictReader(StringIO(standard.read_text()))) if standard.exists() else []
    proved = Counter(row["level"] for row in rows if row.get("evidence"))
    return {"pages": pages, "threat rows": threats, "asvs rows with evidence by level": dict(sorted(proved.items()))}


def _tests() -> Iterator[tuple[str, str]]:
    """Nothing inside an image, which carries no tests."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield str(path.relative_to(ROOT)), node.name


async def _database(settings: Settings, maintenance: Database) -> dict[str, Any]:
    """The schema, the audit log's own check, and each daily one of the last year."""
    from service.core.migrate import head
    from service.guardrails import audit

    report = await audit.verify(maintenance, settings)
    async with maintenance.unit_of_work(read_only=True) as work:
        looks = [dict(row) for row in await work.raw.fetch(LOOKS)]
        present = await work.raw.fetchval("SELECT version_num FROM alembic_version")
    found: dict[str, Any] = {
        "rows": report.rows,
        "segments": report.segments,
        "sealed_until": report.sealed_until,
        "problems": dict(report.counts),
    }
    return {"schema": {"code": head(), "database": present}, "audit log": found, "daily checks": looks}


async def _deeds(maintenance: Database) -> Any:
    """What staff did, and every act that belongs to no organization: switches, emergency rights, replays."""
    since = clock.now() - timedelta(days=DAYS)
    place = UUID(int=int(since.timestamp() * 1000) << 80)
    while True:
        async with maintenance.unit_of_work(read_only=True) as work:
            rows = await work.raw.fetch(DEEDS, place, BATCH)
        for row in rows:
            if row["actor_kind"] == "staff" or (row["organization_id"] is None and row["actor_kind"] == "system"):
                yield tuple(row[name] for name in STAFF)
        if len(rows) < BATCH:
            return
        place = rows[-1]["id"]


def _csv(head: tuple[str, ...], rows: Any) -> str:
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return out.getvalue()


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, default=str) + "\n"
