"""Files and mail stay in the organization's region; what would send them elsewhere is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from service.core.context import SYSTEM, Caller, Context, Resources
from service.core.ids import new_id
from service.core.regions import MailThrough, RegionSettings, in_region
from service.core.settings import Settings
from service.guardrails.residency import Regions, UnknownRegion, at_home, beside, place, region_of
from service.integrations.http import HttpClient
from service.integrations.storage import NotStored, Storage, StorageAway
from tests.support.factories import Factory


@pytest.fixture
def two(settings: Settings, tmp_path: Path) -> Settings:
    """Home, and one more."""
    us = RegionSettings(storage_url=f"file:{tmp_path}/us", mail_through=MailThrough.SMTP)
    return settings.model_copy(update={"regions": {"us": us}, "storage_url": f"file:{tmp_path}/eu"})


@pytest.fixture
def regions(resources: Resources, two: Settings) -> Iterator[Regions]:
    """The process knows both, until the test ends."""
    before = resources.get(Regions)
    made = dataclasses.replace(before, names=tuple(two.places), known={})
    resources.provide(Regions, made)
    yield made
    resources.provide(Regions, before)


@pytest.fixture
async def american(factory: Factory) -> AsyncIterator[UUID]:
    identifier = await factory.organization(region="us")
    yield identifier
    await factory.superuser.execute("DELETE FROM organizations WHERE region <> 'eu'")


async def bytes_of(text: str) -> AsyncIterator[bytes]:
    yield text.encode()


async def key_for(resources: Resources, organization: UUID | None) -> str:
    async with resources.database.unit_of_work(tenant=organization, read_only=True) as work:
        return await place(Context(work, resources, SYSTEM, Caller("test"), organization_id=organization), "t/x")


async def test_an_object_lies_in_its_organizations_region_and_nowhere_else(
    resources: Resources, regions: Regions, two: Settings, american: UUID, factory: Factory, tmp_path: Path
) -> None:
    http = HttpClient(two)
    storage = Storage(two, http)
    theirs, ours = await key_for(resources, american), await key_for(resources, await factory.organization())
    nobodys = await key_for(resources, None)
    assert (theirs, ours, nobodys) == ("us:t/x", "eu:t/x", "eu:t/x")
    await storage.put(theirs, bytes_of("american"))
    assert (tmp_path / "us" / "t" / "x").read_text() == "american"
    assert not (tmp_path / "eu" / "t" / "x").exists()
    with pytest.raises(NotStored):
        await storage.size(ours)
    await storage.put(ours, bytes_of("ours"))
    assert {found.key: found.size async for found in storage.walk("t")} == {theirs: 8, ours: 4}
    # What was stored before there were regions has no region in its key, and lies at home.
    assert b"".join([part async for part in storage.get("t/x")]) == b"ours"
    # What is made from it stays beside it; what is a person's is at home, whatever they work for.
    assert beside(resources, theirs, "t/y") == "us:t/y"
    assert at_home(resources, "exports/1") == "eu:exports/1"
    await storage.delete(theirs)
    assert [found.key async for found in storage.walk("t")] == [ours]
    await http.aclose()


async def test_a_key_without_a_region_is_not_stored_and_an_unknown_region_gets_nothing(
    resources: Resources, regions: Regions, two: Settings, american: UUID, factory: Factory, tmp_path: Path
) -> None:
    """The attack is a forgetful line of code, or a setting that was taken away too soon."""
    http = HttpClient(two)
    storage = Storage(two, http)
    with pytest.raises(ValueError, match="names no region"):
        await storage.put("t/forgotten", bytes_of("x"))
    with pytest.raises(ValueError, match="no place 'avatars'"):
        await storage.put(at_home(resources, "avatars/x"), bytes_of("x"))
    assert not (tmp_path / "eu" / "avatars").exists(), "no export, erasure or sweep would find it"
    with pytest.raises(StorageAway, match="no store is declared for region asia"):
        await storage.put(in_region("asia", "t/x"), bytes_of("x"))
    for organization in (await factory.organization(region="asia"), new_id()):
        with pytest.raises(UnknownRegion, match="no declared region"):
            await key_for(resources, organization)
    await http.aclose()


async def test_it_bites_without_the_lookup_everything_would_be_at_home(
    resources: Resources, regions: Regions, american: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_home_always(self: Regions, work: object) -> str:
        return self.home

    assert await key_for(resources, american) == "us:t/x"
    monkeypatch.setattr(Regions, "of", at_home_always)
    assert await key_for(resources, american) == "eu:t/x"


async def test_a_region_never_changes(resources: Resources, regions: Regions, american: UUID, factory: Factory) -> None:
    """Not even for whoever may change everything: files would lie elsewhere, and processes remember."""
    with pytest.raises(asyncpg.RaiseError, match="never changes"):
        await factory.superuser.execute("UPDATE organizations SET region = 'eu' WHERE id = $1", american)
    await factory.superuser.execute("UPDATE organizations SET region = 'us', name = 'Renamed' WHERE id = $1", american)
    async with resources.database.unit_of_work(tenant=american, read_only=True) as work:
        ctx = Context(work, resources, SYSTEM, Caller("test"), organization_id=american)
        assert await region_of(ctx) == "us"
        assert regions.known == {american: "us"}, "asked once"
