"""What is under an address that was somebody's before is theirs: a legal hold keeps it, as an erasure finds it."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest

from service.core import clock
from service.core.database import UnitOfWork
from service.core.ids import new_id
from service.guardrails import purge
from service.guardrails.former_addresses import FormerAddress, given_up
from service.guardrails.sealed import seal
from service.guardrails.subjects import address_hash
from tests.guardrails.playground import Playground

OLD = timedelta(days=1_500)


async def somebody(playground: Playground, *former: str, email: str = "", confirmed: bool = True) -> UUID:
    """Who had these addresses before."""
    person, now = new_id(), clock.now()
    await playground.superuser.execute(
        "INSERT INTO users (id, email, name, created_at, email_verified_at) VALUES ($1, $2, 'x', $3, $4)",
        person, email or f"{person.hex}@example.com", now, now if confirmed else None,
    )  # fmt: skip
    for address in former:
        identifier = new_id()
        await playground.superuser.execute(
            "INSERT INTO former_addresses (id, user_id, email, until) VALUES ($1, $2, $3, $4)",
            identifier, person, seal(FormerAddress.email, address, identifier), now,
        )  # fmt: skip
    return person


async def leave(playground: Playground, address: str, at: datetime) -> None:
    """A trace of this address in every table that knows people by nothing else."""
    run, hashed = playground.superuser.execute, address_hash(address)
    await run(
        "INSERT INTO sent_mails (reference, template, address_hash, state, attempts, first_tried_at, tried_at)"
        " VALUES ($1, 'x', $2, 'sent', 1, $3, $3)",
        address, hashed, at,
    )  # fmt: skip
    await run(
        "INSERT INTO mail_suppressions (id, address_hash, email, cause, code, seen_at)"
        " VALUES ($1, $2, $3, 'bounce', '', $4)",
        new_id(), hashed, address, at,
    )  # fmt: skip
    await run(
        "INSERT INTO invitations (id, organization_id, email, role, sendings, token_hash, created_at, expires_at)"
        " VALUES ($1, $2, $3, 'member', 1, $4, $5, $5)",
        new_id(), await playground.organization(), address, new_id().bytes, at,
    )  # fmt: skip


async def left(playground: Playground, address: str) -> int:
    return (
        await playground.count("sent_mails", "reference = $1", address)
        + await playground.count("mail_suppressions", "email = $1", address)
        + await playground.count("invitations", "email = $1", address)
    )


async def hold(playground: Playground, person: UUID) -> None:
    await playground.superuser.execute(
        "INSERT INTO legal_holds (id, subject_id, reason, placed_at) VALUES ($1, $2, 'lawsuit', now())",
        new_id(), person,
    )  # fmt: skip


def address() -> str:
    return f"{new_id().hex}@example.com"


async def test_a_hold_keeps_what_is_under_a_former_address(playground: Playground) -> None:
    first, second, free, theirs = (address() for _ in range(4))
    held = await somebody(playground, first, second, theirs)
    await somebody(playground, free)
    await somebody(playground, email=theirs)
    await somebody(playground, email=second, confirmed=False)
    for one in (first, second, free, theirs):
        await leave(playground, one, clock.now() - OLD)
    await hold(playground, held)
    await purge.purge_expired(playground.resources)
    assert await left(playground, first) == 3
    assert await left(playground, second) == 3, "a sign-up that nobody confirmed takes no address away"
    assert await left(playground, free) == 0, "nobody holds this person"
    assert await left(playground, theirs) == 0, "it is somebody else's by now"
    await playground.superuser.execute("UPDATE legal_holds SET lifted_at = now() WHERE subject_id = $1", held)
    await purge.purge_expired(playground.resources)
    assert [await left(playground, one) for one in (first, second)] == [0, 0]


async def test_it_bites_without_the_former_addresses_a_hold_loses_them(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = address()
    await hold(playground, await somebody(playground, former))
    await leave(playground, former, clock.now() - OLD)

    async def nothing(work: UnitOfWork, people: list[UUID]) -> dict[UUID, dict[str, datetime]]:
        return {}

    monkeypatch.setattr(purge, "given_up", nothing)
    await purge.purge_expired(playground.resources)
    assert await left(playground, former) == 0


async def test_one_that_cannot_be_opened_hides_no_other(playground: Playground) -> None:
    readable, lost = address(), address()
    person, other = await somebody(playground, readable, lost), await somebody(playground)
    rows = await playground.superuser.fetch("SELECT id FROM former_addresses WHERE user_id = $1 ORDER BY id", person)
    await playground.superuser.execute(
        "UPDATE former_addresses SET email = substr(email, 1, 20) WHERE id = $1", rows[-1]["id"]
    )
    async with playground.database.unit_of_work(tenant=None, read_only=True) as work:
        found = await given_up(work, [person, other])
    assert {one: list(addresses) for one, addresses in found.items()} == {person: [readable]}
