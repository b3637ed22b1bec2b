"""What billing gave up on is on the page of dead letters: customers that cannot be read, messages of nobody."""

from __future__ import annotations

from typing import Any

import asyncpg

from service.core.ids import new_id
from service.guardrails.permissions import Role
from tests.features.billing.staff_desk import message
from tests.support.factories import Factory

PAGE = "/staff/dead-letters"


async def test_a_customer_that_could_not_be_read_is_tried_again(
    factory: Factory, superuser: asyncpg.Connection[Any]
) -> None:
    organization, identifier, stripe_id = await factory.organization(), new_id(), f"cus_{new_id().hex[-12:]}"
    await superuser.execute(
        "INSERT INTO billing_customers (id, organization_id, stripe_customer_id, livemode, created_at, dirty_gen,"
        " synced_gen, failures, dead_at, last_error)"
        " VALUES ($1, $2, $3, true, now(), 5, 2, 12, now(), 'StripeUnreadable')",
        identifier, organization, stripe_id,
    )  # fmt: skip
    staff = await factory.person(Role.OWNER, staff=True)
    async with await factory.client(staff, "password", "totp") as client:
        here = f"{PAGE}/stripe-customers"
        page = await client.page(f"{here}?q={stripe_id}")
        assert "StripeUnreadable" in page
        assert str(organization) in page
        assert f"/staff/billing/customers/{identifier}" in await client.page(f"{PAGE}/stripe-customers?q={identifier}")
        assert stripe_id in (await client.get(f"{here}/csv?q={stripe_id}")).text
        press = f"{here}/replay?q={stripe_id}"
        assert press in page, "what is pressed means what the search shows"
        assert f'value="{stripe_id}"' in await client.page(press)
        done = await client.submit(f"{here}/replay", page=press, q=stripe_id, reason="Stripe is mended")
        assert done.status_code == 303
    row = await superuser.fetchrow("SELECT * FROM billing_customers WHERE id = $1", identifier)
    assert row is not None
    assert (row["dead_at"], row["failures"]) == (None, 0)
    assert row["dirty_gen"] > 5, "it is read in full"
    await superuser.execute("DELETE FROM billing_customers WHERE id = $1", identifier)


async def test_messages_of_nobody_are_tried_again_or_discarded(
    factory: Factory, superuser: asyncpg.Connection[Any]
) -> None:
    kind = f"invoice.probe_{new_id().hex[-8:]}"
    known = [await message(superuser, type=kind, attempts=4) for _ in range(2)]
    staff = await factory.person(Role.OWNER, staff=True)
    async with await factory.client(staff, "password", "totp") as client:
        here = f"{PAGE}/stripe-messages"
        page = await client.page(f"{here}?q={kind}")
        assert all(f"/staff/billing/inbox/{each}" in page for each in known)
        assert f"/staff/billing/inbox/{known[1]}" not in await client.page(f"{here}?q={known[0]}")
        again = {"page": f"{here}/replay", "q": str(known[0]), "reason": "Linked by now"}
        assert (await client.submit(f"{here}/replay", **again)).status_code == 303
        rows = await superuser.fetch("SELECT attempts, state FROM inbox WHERE type = $1 ORDER BY id", kind)
        # The worker may have tried the first once more by now: its count began anew, the other's did not.
        assert rows[0]["attempts"] < 4
        assert rows[1]["attempts"] == 4, "one alone"
        away = {"page": f"{here}/discard", "q": kind, "reason": "Not one of ours"}
        assert (await client.submit(f"{here}/discard", **away)).status_code == 303
        rows = await superuser.fetch("SELECT reason, state FROM inbox WHERE type = $1", kind)
        assert {(row["state"], row["reason"]) for row in rows} == {("ignored", "discarded")}
        late = await client.submit(f"{here}/discard", **away)
        assert late.status_code == 422
    reason = "SELECT reason FROM audit_log WHERE action = 'billing.discard_unmatched' AND actor_id = $1"
    assert await superuser.fetchval(reason, staff.id) == "Not one of ours"
