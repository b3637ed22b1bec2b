"""The evidence is whole, dated and holds no secret."""

from __future__ import annotations

import csv
import json
from hashlib import sha256
from pathlib import Path

import pytest
from pydantic import SecretStr

from service.core.database import Database
from service.core.settings import Settings
from service.guardrails.permissions import Role
from tests.support.factories import Factory
from tests.support.processes import command
from tests.support.servers import RunningServer


@pytest.fixture(scope="module")
async def folder(
    server: RunningServer, factory: Factory, maintenance: Database, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """As the command writes it, after somebody of our staff did something; nothing outside can be reached."""
    person = await factory.person(Role.OWNER, staff=True)
    async with await factory.client(person, "password", "totp") as client:
        assert (await client.page("/audit-log")) is not None
    out = tmp_path_factory.mktemp("evidence")
    nowhere = dict.fromkeys(("STRIPE_API_BASE", "OIDC_ISSUER", "RATES_API_BASE", "HTTPS_PROXY"), "http://127.0.0.1:9")
    code, said = await command("evidence", "--out", str(out), **nowhere)
    assert code == 0, said
    assert len(said.splitlines()) == len(list(out.iterdir())) == 10
    return out


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open() as lines:
        return list(csv.DictReader(lines))


async def test_every_part_says_what_is_so(folder: Path) -> None:
    permissions = {row["name"]: row for row in rows(folder, "permissions.csv")}
    assert permissions["organizations.delete"]["requires"] == "owner"
    assert permissions["organizations.delete"]["step_up"] == "True"
    assert len(permissions) >= 150
    routes = rows(folder, "routes.csv")
    assert {"method": "GET", "path": "/audit-log", "who": "organization", "limit": "read"} in routes
    assert len(routes) >= 150
    assert len(rows(folder, "data-map.csv")) >= 300
    here = f"tests/core/{Path(__file__).name}"
    assert {"file": here, "test": "test_every_part_says_what_is_so"} in rows(folder, "tests.csv")
    parts = {one["name"].lower() for one in json.loads((folder / "dependencies.json").read_text())["components"]}
    assert {"fastapi", "sqlalchemy", "cryptography"} <= parts
    documents = json.loads((folder / "documents.json").read_text())
    assert documents["threat rows"]["audit_log"] >= 3
    assert "docs/compliance/residency.md" in documents["pages"]
    database = json.loads((folder / "database.json").read_text())
    assert database["schema"]["code"] == database["schema"]["database"]
    assert {row["actor_kind"] for row in rows(folder, "staff-acts.csv")} >= {"staff"}


async def test_the_list_of_contents_gives_each_file_away_that_was_changed(folder: Path) -> None:
    contents = json.loads((folder / "contents.json").read_text())
    assert contents["made_at"].startswith("20")
    assert contents["files"] == {
        path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.name != "contents.json"
    }


async def test_no_value_of_a_setting_is_in_it(folder: Path, settings: Settings) -> None:
    text = "".join(path.read_text() for path in folder.iterdir())
    said = json.loads((folder / "settings.json").read_text())["settings"]
    assert len(said) == len(Settings.model_fields)
    assert set(said.values()) == {"given", "default"}
    secrets = [value.get_secret_value() for _, value in settings if isinstance(value, SecretStr)]
    assert len(secrets) >= 9
    shown = [secret for secret in secrets if len(secret) >= 8 and secret in text]
    assert not shown, "a secret is in the evidence"
