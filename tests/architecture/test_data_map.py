"""The data map is complete: whatever the code, the database, Redis, the store and the log hold is classified in it."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy import Column, ForeignKey, MetaData, String, Table

from service.core import logging
from service.core.context import Resources
from service.core.settings import Settings
from service.guardrails.data_map import LOG_FIELDS, PROCESSORS, Kind, of_kind, outbound_hosts, stores
from service.guardrails.data_map.processors import agreements, host_of
from service.guardrails.data_map.record import notice, record, rows
from service.guardrails.data_map.stores import Store
from service.guardrails.permissions import Role
from service.guardrails.personal_data import CATEGORIES, LAW, PURPOSES, Basis, Erasure, internal, personal
from service.guardrails.purposes import PURPOSES as CHOICES
from service.guardrails.purposes import Basis as ByChoice
from service.guardrails.purposes import Purpose as Choice
from service.guardrails.purposes import purpose
from service.guardrails.subjects import By, Subject, problems
from service.guardrails.uploads.kept import PLACES
from tests.architecture.conftest import ROOT, SERVICE
from tests.support.factories import Factory

RECORD, ASSESSED = ROOT / "docs/compliance/record-of-processing.md", ROOT / "docs/compliance/impact-assessments.md"
LEVELS = ("debug", "info", "warning", "error", "exception", "level")
BOUND = ("bind_contextvars", "bound_contextvars")
ADDRESSES = re.compile(r"_(url|base|endpoint|issuer|hosts)$")
OURS = {"base_url", "allowed_hosts", "runbooks_url"}


def untouched() -> Settings:
    """As somebody has it who set nothing, whatever the environment says."""
    return Settings.model_construct(**{name: field.default for name, field in Settings.model_fields.items()})


def test_every_person_is_reached_and_what_is_kept_is_reasoned(metadata: MetaData) -> None:
    assert problems(metadata) == []


@pytest.mark.parametrize(
    ("columns", "subject", "sentence"),
    [
        ([Column("email", String, info=personal("contact.email"))], None, "holds email and reaches no person"),
        ([Column("id", String, info=internal())], Subject("email", By.EMAIL), "'email', which it does not have"),
        ([Column("seen", String, info=internal(erasure=Erasure.KEEP))], None, "cites no law"),
        ([Column("x", String, info=internal(erasure=Erasure.KEEP, because="we like it"))], None, "cites no law"),
        ([Column("id", String, primary_key=True, info=internal(erasure=Erasure.NULL))], None, "part of the key"),
        ([Column("x", String, nullable=False, info=internal(erasure=Erasure.NULL))], None, "must not be empty"),
    ],
)
def test_what_the_map_would_miss_is_said(columns: list[Column[Any]], subject: Subject | None, sentence: str) -> None:
    found = problems_of(Table("probe", MetaData(), *columns, info={"subject": subject}))
    assert len(found) >= 1
    assert any(sentence in each for each in found)


def problems_of(table: Table) -> list[str]:
    return problems(table.metadata)


def test_a_table_that_deletes_with_its_person_needs_no_word() -> None:
    metadata = MetaData()
    Table("users", metadata, Column("id", String, primary_key=True, info=internal("subject")))
    key: Column[Any] = Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), info=internal("subject"))
    Table("probe", metadata, key, Column("email", String, info=personal("contact.email")))
    assert problems(metadata) == []


async def test_the_database_has_no_column_that_the_map_does_not_know(
    metadata: MetaData, superuser: asyncpg.Connection[Any]
) -> None:
    found = await superuser.fetch(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
    )
    assert len(found) >= 400, f"the scan saw only {len(found)} columns"
    known = {(table.name, column.name) for table in metadata.tables.values() for column in table.columns}
    strange = {tuple(row) for row in found if row["table_name"] not in of_kind(Kind.TABLE)} - known
    assert not strange, f"{strange}: classify them on the model, or the library's table in data_map/stores.py"
    gone = set(of_kind(Kind.TABLE)) - {row["table_name"] for row in found}
    assert not gone, f"{gone} are in data_map/stores.py and not in the database"


def redis_families(texts: dict[Path, str]) -> set[str]:
    """The word after the namespace, wherever a key is put together: in Lua and in Python."""
    lua = r"""space \.\. ':(\w+)"""
    python = r"""\{(?:space|namespace|[\w.]*redis_namespace)\}:(\w+)"""
    return {name for text in texts.values() for name in re.findall(f"{lua}|{python}", text) for name in name if name}


def code() -> dict[Path, str]:
    return {path: path.read_text() for path in SERVICE.rglob("*") if path.suffix in (".py", ".lua")}


def test_every_redis_key_of_the_code_is_in_the_map() -> None:
    found = redis_families(code())
    assert len(found) >= 7, f"the scan saw only {found}"
    assert found == set(of_kind(Kind.REDIS)), (
        f"{found ^ set(of_kind(Kind.REDIS))}: declare the family in guardrails/data_map/stores.py, or remove it there"
    )
    assert "probe" in redis_families({Path("x.lua"): "redis.call('GET', space .. ':probe:' .. id)"})
    assert "probe" in redis_families({Path("x.py"): 'f"{settings.redis_namespace}:probe:{id}"'})


ASKING = {"aclose", "info", "ping"}


def past_the_guards(sources: dict[Path, ast.Module]) -> tuple[int, list[str]]:
    """How many files were read; and where features and integrations put keys together without a guard rail."""
    apart = {SERVICE / "core", SERVICE / "guardrails"}
    read = {path: tree for path, tree in sources.items() if not apart & set(path.parents)}
    found = []
    for path, tree in read.items():
        above = {id(node.value): node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute):
                continue
            name = node.attr
            if name == "redis_namespace" or (name == "redis" and above.get(id(node)) not in ASKING):
                found.append(f"{path.name}:{node.lineno}")
    return len(read), sorted(found)


def test_only_guard_rails_put_something_into_redis(sources: dict[Path, ast.Module]) -> None:
    seen, found = past_the_guards(sources)
    assert seen >= 250, f"the scan saw only {seen} files"
    assert not found, f"{found}: keys are made in service/guardrails, where the map of data is compared with them"
    probe = ast.parse(
        "await ctx.resources.redis.set(f'profile:{user.email}', 1)\nred = ctx.resources.redis\nred.set(1, 2)"
    )
    assert past_the_guards({SERVICE / "features/probe/flows.py": probe})[1] == ["flows.py:1", "flows.py:2"]


async def strange_keys(redis: Redis, namespace: str) -> tuple[int, set[str]]:
    seen = [key.decode() async for key in redis.scan_iter(match=f"{namespace}:*", count=1000)]
    families = {key.removeprefix(f"{namespace}:").partition(":")[0] for key in seen}
    return len(seen), families - set(of_kind(Kind.REDIS))


async def test_what_a_journey_leaves_in_redis_is_in_the_map(
    factory: Factory, resources: Resources, settings: Settings
) -> None:
    person = await factory.person(Role.OWNER, password="correct horse battery staple")
    async with await factory.client(person) as browser, await factory.client() as stranger:
        await browser.page("/indicators")
        await browser.get("/api/v1/indicators", headers=browser.bearer)
        await stranger.submit("/login", email=person.email, password="wrong")
    seen, strange = await strange_keys(resources.redis, settings.redis_namespace)
    assert seen >= 4
    assert not strange, f"{strange}: declare the family in guardrails/data_map/stores.py"
    await resources.redis.set(f"{settings.redis_namespace}:probe:1", "x", ex=5)
    assert (await strange_keys(resources.redis, settings.redis_namespace))[1] == {"probe"}
    await resources.redis.delete(f"{settings.redis_namespace}:probe:1")


def test_every_place_in_the_store_is_in_the_map(metadata: MetaData) -> None:
    assert len(PLACES) >= 2
    assert set(of_kind(Kind.OBJECTS)) == set(PLACES), "declare the prefix in guardrails/data_map/stores.py"


def cookies(sources: dict[Path, ast.Module]) -> set[str]:
    """What is put under a name: `put_cookie(response, settings, NAME, ...)`, `hold(resources, response, NAME, ...)`."""
    found = set()
    for path, tree in sources.items():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and len(node.args) >= 3):
                continue
            called, name = ast.unparse(node.func).rsplit(".", 1)[-1], node.args[2]
            if called not in ("put_cookie", "hold"):
                continue
            if isinstance(name, ast.Constant):
                found.add(str(name.value))
            elif isinstance(name, ast.Name) and name.id.isupper():
                found.add(getattr(module_of(path), name.id))
    return found


def module_of(path: Path) -> Any:
    return import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


def test_every_cookie_is_in_the_map(sources: dict[Path, ast.Module]) -> None:
    made = {name for text in code().values() for name in re.findall(r'"__Host-(\w+)"', text)}
    found = cookies(sources) | made
    assert len(found) >= 5
    assert found == set(of_kind(Kind.COOKIE)), (
        f"{found ^ set(of_kind(Kind.COOKIE))}: declare the cookie in guardrails/data_map/stores.py, or remove it there"
    )


def log_fields(sources: dict[Path, ast.Module]) -> set[str]:
    found = {"event", "level", "timestamp", "trace_id", "exception", "logger"}
    for tree in sources.values():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            words = {str(word.arg) for word in node.keywords if word.arg}
            if called.rsplit(".", 1)[-1] in BOUND or called in {"level", *(f"log.{each}" for each in LEVELS)}:
                found |= words
    return found


def test_every_field_of_the_log_is_in_the_map_and_none_is_personal(sources: dict[Path, ast.Module]) -> None:
    found = log_fields(sources)
    assert len(found) >= 40, f"the scan saw only {len(found)}"
    unknown = found - set(LOG_FIELDS)
    assert not unknown, f"{unknown}: add the word to LOG_FIELDS in guardrails/data_map/stores.py with what it holds"
    assert set(LOG_FIELDS.values()) <= {"operations", "subject", "tenant"}, "nothing personal is logged"
    assert not set(LOG_FIELDS) & logging.hidden_names, "its value would never be seen"
    assert "probe" in log_fields({Path("x.py"): ast.parse("log.info('done', probe=1)")})


def unclaimed(settings: type[Settings]) -> set[str]:
    claimed = {name for one in PROCESSORS.values() for name in one.settings}
    return {name for name in settings.model_fields if ADDRESSES.search(name)} - claimed - OURS


def test_every_address_in_the_settings_has_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not unclaimed(Settings), f"{unclaimed(Settings)}: whose is it? say so in guardrails/data_map/processors.py"
    missing = {name for one in PROCESSORS.values() for name in one.settings} - set(Settings.model_fields)
    assert not missing, f"{missing}: no such setting"
    monkeypatch.setitem(Settings.model_fields, "probe_url", Settings.model_fields["base_url"])
    assert unclaimed(Settings) == {"probe_url"}


def test_every_address_in_the_integrations_has_a_processor(sources: dict[Path, ast.Module]) -> None:
    """What an integration asks when no setting says otherwise."""
    inside = {path: tree for path, tree in sources.items() if SERVICE / "integrations" in path.parents}
    texts = {
        str(node.value)
        for tree in inside.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and re.match(r"https://[\w.]+", str(node.value))
    }
    assert len(texts) >= 4
    known = {host for one in PROCESSORS.values() for host in one.hosts}
    strange = {text for text in texts if host_of(text) not in known}
    assert not strange, f"{strange}: name the host in guardrails/data_map/processors.py"


def test_hosts_are_told_by_processor(settings: Settings) -> None:
    hosts = outbound_hosts(untouched())
    assert hosts["stripe"] >= {"api.stripe.com"}
    assert hosts["sendgrid"] == {"api.sendgrid.com"}
    assert hosts["sources"] == {"api.frankfurter.dev", "api.github.com", "plausible.io"}
    assert outbound_hosts(settings)["stripe"] == {"127.0.0.1"}
    assert hosts["storage"] == {"*.amazonaws.com"}


def test_agreements_are_read_and_a_wrong_day_is_refused() -> None:
    found = agreements(Settings(processor_agreements="stripe=2026-01-31, hosting=2026-02-01").processor_agreements)
    assert {name: str(day) for name, day in found.items()} == {"stripe": "2026-01-31", "hosting": "2026-02-01"}
    with pytest.raises(ValueError, match="processor_agreements"):
        Settings(processor_agreements="stripe=soon")


def unassessed(text: str) -> set[tuple[str, str]]:
    written = {(kind, name) for kind, name in re.findall(r"^\| (\w+) \| ([\w.-]+) \| \w+ \| \S", text, re.MULTILINE)}
    needed = {("purpose", name) for name in (*PURPOSES, *CHOICES)} | {("recipient", name) for name in PROCESSORS}
    needed |= {("sensitive", name) for name, one in CATEGORIES.items() if one.sensitive}
    return needed ^ (written - {("what", "name")})


def test_every_purpose_recipient_and_sensitive_kind_was_assessed(monkeypatch: pytest.MonkeyPatch) -> None:
    text = ASSESSED.read_text()
    assert not unassessed(text), f"{unassessed(text)}: weigh it in {ASSESSED.relative_to(ROOT)} (GDPR Art. 35)"
    monkeypatch.setitem(PURPOSES, "probe", PURPOSES["service"])
    monkeypatch.setitem(CHOICES, "scores", Choice("scores", "Scores", "We score you.", ByChoice.CONSENT))
    assert unassessed(text) == {("purpose", "probe"), ("purpose", "scores")}


def test_what_people_choose_is_in_the_record_and_in_the_notice(
    metadata: MetaData, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(CHOICES) >= 2
    monkeypatch.setitem(CHOICES, "x", Choice("x", "Scores of people", "We score you.", ByChoice.CONSENT, 1, ("name",)))
    told, written = {line.purpose for line in notice(metadata)}, record(metadata, untouched()).split("## Recipients")[0]
    assert {one.title for one in CHOICES.values()} <= told
    assert not [one.title for one in CHOICES.values() if f"| {one.title} | {one.basis} | user." not in written]
    with pytest.raises(ValueError, match="not in CATEGORIES"):
        purpose("y", "Y", "Y.", basis=ByChoice.CONSENT, uses=("shoe_size",))


def test_the_record_of_processing_is_fresh(metadata: MetaData) -> None:
    assert RECORD.read_text() == record(metadata, untouched()), "run `python -m service privacy record`"


def test_the_map_says_everything_of_every_place(metadata: MetaData) -> None:
    found = list(rows(metadata))
    columns = sum(len(table.columns) for table in metadata.tables.values())
    assert len(found) >= columns + 20
    blank = [row[0] for row in found if not all(row[place] for place in (0, 1, 2, 4, 5, 6, 7, 8, 10))]
    assert not blank
    kept = [row for row in found if row[8] == Erasure.KEEP]
    assert kept
    assert len(kept) >= 10
    assert all(LAW.search(row[9]) for row in kept), "what outlives its person cites a law"
    baseless = [row[0] for row in found if "user." in row[2] and row[5] == Basis.NONE]
    assert not baseless, f"{baseless}: personal data without a lawful basis"


def test_a_store_and_a_category_that_nobody_declared_are_refused() -> None:
    with pytest.raises(ValueError, match="not in CATEGORIES"):
        personal("user.shoe_size")
    with pytest.raises(ValueError, match="not in PURPOSES"):
        personal("name", purpose="fun")
    with pytest.raises(ValueError, match="declared twice"):
        Store(Kind.REDIS, "s", "x", (), "service", "x", Erasure.DELETE, "x")
    with pytest.raises(ValueError, match="cites no law"):
        Store(Kind.REDIS, "probe", "x", (), "service", "x", Erasure.KEEP, "we like it")
    assert stores.STORES[Kind.REDIS, "s"].is_personal


def test_no_setting_with_a_secret_is_shown_with_the_hosts(settings: Settings) -> None:
    told = {host for hosts in outbound_hosts(settings).values() for host in hosts}
    secrets = [value.get_secret_value() for value in dict(settings).values() if isinstance(value, SecretStr)]
    assert len(secrets) >= 8
    assert not [secret for secret in secrets if len(secret) > 8 and any(secret in host for host in told)]


def test_the_notice_says_how_long_in_words_and_not_in_names_of_tables(metadata: MetaData) -> None:
    periods = {period for line in notice(metadata) for period in line.retention}
    assert len(periods) > 10
    assert {period for period in periods if "_" in period} == set()
    assert "3 years after it was finished" in periods
