"""The pages of keys: made and shown once, renewed with an overlap, ended; by admins, after a password."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from service.core import clock
from service.features.api_keys.models import MOST_KEYS
from service.features.api_keys.queries import offered
from service.guardrails.api_keys import hash_of, mint, parse
from service.guardrails.permissions import Role
from tests.support.client import Client
from tests.support.factories import Factory, Person

NEW = "/api-keys/new"
SECRET = re.compile(r'id="secret">(blst_[0-9A-Za-z]+)<')
READ = {"name": "Nightly import", "lasts": "90 days", "indicators:read": "on"}


class Admin:
    """Somebody who manages keys, and the programs that use them."""

    def __init__(self, factory: Factory, person: Person, browser: Client) -> None:
        assert person.organization_id is not None
        self.factory, self.person, self.browser = factory, person, browser
        self.organization: UUID = person.organization_id

    async def make(self, **fields: str) -> str:
        answer = await self.browser.submit(NEW, **(READ | fields))
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        [secret] = SECRET.findall(answer.text)
        return str(secret)

    async def id_of(self, secret: str) -> str:
        found = await self.factory.superuser.fetchval("SELECT id FROM api_keys WHERE secret_hash = $1", hash_of(secret))
        return str(found)

    async def works(self, secret: str, path: str = "/indicators") -> int:
        async with Client(self.factory.url, key=secret) as program:
            return (await program.api("GET", path)).status_code


@pytest.fixture
async def admin(factory: Factory) -> AsyncIterator[Admin]:
    person = await factory.person(Role.ADMIN)
    async with await factory.client(person) as browser:
        yield Admin(factory, person, browser)
    clock.reset()


async def test_a_key_is_made_shown_once_and_used(admin: Admin) -> None:
    empty = await admin.browser.page("/api-keys")
    await admin.factory.superuser.execute("DELETE FROM api_keys WHERE organization_id = $1", admin.organization)
    assert "No keys yet" in await admin.browser.page("/api-keys")
    assert "No keys yet" not in empty, "the browser's own program has one"
    secret = await admin.make()
    page = await admin.browser.page("/api-keys")
    assert "Nightly import" in page
    assert "Never" in page
    assert "Read indicators" in page
    assert secret[:13] in page
    assert secret[:14] not in page
    assert [await admin.works(secret), await admin.works(secret, "/organizations/current")] == [200, 403]
    assert "Never" not in await admin.browser.page("/api-keys"), "its use was noted"
    clock.advance(timedelta(days=90))
    assert await admin.works(secret) == 401


async def test_a_key_outlives_the_membership_of_its_maker_and_keeps_its_name_in_the_log(admin: Admin) -> None:
    secret = await admin.make(**{"indicators:write": "on"})
    owner = await admin.factory.person(Role.OWNER, admin.organization)
    await admin.factory.superuser.execute("DELETE FROM memberships WHERE user_id = $1", admin.person.id)
    async with Client(admin.factory.url, key=secret) as program, await admin.factory.client(owner) as browser:
        assert (await program.api("POST", "/indicators", {"name": "Still counted"})).status_code == 201
        assert "Whoever knows the secret is no longer a member." in await browser.page("/api-keys")
        log = (await browser.api("GET", "/audit_log")).json()["items"]
        sentences = [entry["sentence"] for entry in log]
        assert "The API key “Nightly import” created an indicator" in sentences
        assert any(sentence.endswith("made an API key") for sentence in sentences)
        assert secret[13:] not in str(log)
        assert "The API key “Nightly import”" in await browser.page("/audit-log")


async def test_a_key_does_no_more_than_its_holder_and_ends_when_they_are_removed(admin: Admin) -> None:
    secret, organization = await admin.make(**{"indicators:write": "on"}), admin.organization
    owner = await admin.factory.person(Role.OWNER, organization)
    find = "SELECT id FROM memberships WHERE user_id = $1 AND organization_id = $2"
    place = await admin.factory.superuser.fetchval(find, admin.person.id, organization)
    async with Client(admin.factory.url, key=secret) as program, await admin.factory.client(owner) as browser:
        await browser.submit(f"/members/{place}/role", page="/members", role="viewer")
        assert (await program.api("POST", "/indicators", {"name": "Too much"})).status_code == 403
        assert (await program.api("GET", "/indicators")).status_code == 200
        assert "is viewer now, and the key may do no more than that" in await browser.page("/api-keys")
        renewal = await browser.submit(f"/api-keys/{await admin.id_of(secret)}/rotation", overlap="24 hours")
        [renewed] = SECRET.findall(renewal.text)
        async with Client(admin.factory.url, key=renewed) as other:
            assert (await other.api("POST", "/indicators", {"name": "Renewed"})).status_code == 201
        late = await program.api("POST", "/indicators", {"name": "Still too much"})
        assert late.status_code == 403, "the old secret works on, for whoever was shown it"
        held = await admin.factory.key(organization, created_by=admin.person.id)
        await browser.submit(f"/members/{place}/removal", page="/members")
        assert [await admin.works(one) for one in (held, secret, renewed)] == [401, 401, 200]


async def test_a_new_secret_takes_over_while_the_old_one_works_on(admin: Admin) -> None:
    old = await admin.make()
    path = f"/api-keys/{await admin.id_of(old)}/rotation"
    answer = await admin.browser.submit(path, overlap="1 hour")
    assert "The old secret works for another 1 hour." in answer.text
    [new] = SECRET.findall(answer.text)
    assert [await admin.works(old), await admin.works(new)] == [200, 200]
    assert "The old secret works until" in await admin.browser.page("/api-keys")
    clock.advance(timedelta(hours=1))
    assert [await admin.works(old), await admin.works(new)] == [401, 200]
    async with await admin.factory.client(admin.person) as again:
        [newest] = SECRET.findall((await again.submit(path, overlap="Not at all")).text)
    assert [await admin.works(new), await admin.works(newest)] == [401, 200]


async def test_a_revoked_key_ends_with_all_its_secrets(admin: Admin) -> None:
    old = await admin.make()
    key_id = await admin.id_of(old)
    [new] = SECRET.findall((await admin.browser.submit(f"/api-keys/{key_id}/rotation", overlap="24 hours")).text)
    answer = await admin.browser.submit(f"/api-keys/{key_id}/revocation", page="/api-keys")
    assert answer.status_code == 303
    page = await admin.browser.page("/api-keys")
    assert "is revoked" in page
    assert "Revoked" in page
    assert [await admin.works(old), await admin.works(new)] == [401, 401]
    again = await admin.browser.post(f"/api-keys/{key_id}/rotation", csrf=admin.browser.csrf, overlap="1 hour")
    assert (again.status_code, "Make a new key instead." in again.text) == (422, True)


async def test_making_and_renewing_ask_for_the_password_and_ending_does_not(admin: Admin) -> None:
    secret = await admin.make()
    key_id = await admin.id_of(secret)
    clock.advance(timedelta(minutes=admin.factory.resources.settings.step_up_minutes + 1))
    for path in (NEW, f"/api-keys/{key_id}/rotation"):
        assert (await admin.browser.get(path)).headers["location"].startswith("/confirm?next=")
        sent = await admin.browser.post(path, csrf=admin.browser.csrf, **READ, overlap="1 hour")
        assert sent.headers["location"].startswith("/confirm")
    await admin.browser.submit(f"/api-keys/{key_id}/revocation", page="/api-keys")
    assert await admin.works(secret) == 401


async def test_nobody_gets_more_than_they_have(admin: Admin) -> None:
    """An admin's key reads no audit log, and an owner's key is not renewed by an admin, who would then hold it."""
    assert "audit_log:read" not in offered(Role.ADMIN)
    assert "audit_log:read" in offered(Role.OWNER)
    assert "organizations:write" not in offered(Role.OWNER), "its API only reads"
    sneaky = await admin.browser.submit(NEW, **READ, **{"audit_log:read": "on"})
    assert (sneaky.status_code, "fields that do not belong here" in sneaky.text) == (422, True)
    of_owner = await admin.id_of(await admin.factory.key(admin.organization, Role.OWNER))
    refused = await admin.browser.submit(f"/api-keys/{of_owner}/rotation", overlap="1 hour")
    assert (refused.status_code, "more than you may" in refused.text) == (422, True)
    elsewhere = await admin.id_of(await admin.factory.key(await admin.factory.organization()))
    for what in ("rotation", "revocation"):
        sent = await admin.browser.post(f"/api-keys/{elsewhere}/{what}", csrf=admin.browser.csrf, overlap="1 hour")
        assert sent.status_code == 404


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"indicators:read": ""}, "Choose at least one thing"),
        ({"name": ""}, "Name"),
        ({"lasts": "for ever"}, "Works for"),
    ],
)
async def test_what_is_missing_is_said_and_no_key_is_made(admin: Admin, fields: dict[str, str], sentence: str) -> None:
    sent = {name: value for name, value in (READ | fields).items() if value or name == "name"}
    answer = await admin.browser.submit(NEW, **sent)
    assert (answer.status_code, sentence in answer.text) == (422, True)
    assert not SECRET.search(answer.text)


async def test_keys_do_not_grow_without_end(admin: Admin, superuser: asyncpg.Connection[Any]) -> None:
    await superuser.execute(
        "INSERT INTO api_keys (id, organization_id, name, role, scopes, prefix, secret_hash, created_at)"
        " SELECT gen_random_uuid(), $1, 'Key', 'admin', '{}', 'blst_', sha256(gen_random_uuid()::text::bytea), now()"
        " FROM generate_series(1, $2) n",
        admin.organization, MOST_KEYS,
    )  # fmt: skip
    answer = await admin.browser.submit(NEW, **READ)
    assert (answer.status_code, f"There are {MOST_KEYS} keys already." in answer.text) == (422, True)
    assert 'rel="next"' in await admin.browser.page("/api-keys")


def test_the_seeded_key_is_the_same_at_every_start() -> None:
    chance = b"c" * 32
    home = UUID(int=7)
    assert mint(home, chance) == mint(home, chance) != mint(home)
    assert parse(mint(home, chance)) is not None
