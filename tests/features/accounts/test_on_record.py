"""Everything by which somebody proves who they are is on record: what worked, and what did not (ASVS 16.3.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.features.accounts.conftest import OTHER_PASSWORD, PASSWORD, LogIn
from tests.features.accounts.test_second_factor import password_only, turn_on
from tests.support.client import Client
from tests.support.factories import Person

THIRD_PASSWORD = "nine grey cats behind the moon"


async def test_every_proof_is_on_record_also_the_wrong_ones(
    browser: Callable[[], Client], person: Person, logged_in: LogIn, superuser: Any
) -> None:
    client, fresh = await logged_in(person), browser()
    phone, codes = await turn_on(client)
    await fresh.submit("/login", email=person.email, password=OTHER_PASSWORD)
    await password_only(fresh, person)
    await fresh.submit("/login/code", code="000000" if phone.code() != "000000" else "111111")
    assert (await fresh.submit("/login/code", code=codes[0])).status_code == 303
    await fresh.submit("/confirm", proof=OTHER_PASSWORD)
    assert (await fresh.submit("/confirm", proof=PASSWORD)).status_code == 303
    await fresh.submit("/account/password", current=OTHER_PASSWORD, password=THIRD_PASSWORD)
    assert (await fresh.submit("/logout", page="/account")).status_code == 303
    rows = await superuser.fetch(
        "SELECT action, outcome, facts ->> 'step' AS step, audit_log::text AS line FROM audit_log"
        " WHERE actor_id = $1 OR facts ->> 'account' = $1::text",
        person.id,
    )
    seen = {(row["action"].removeprefix("accounts."), row["outcome"], row["step"] or "") for row in rows}
    assert seen >= {
        ("log_in", "failed", "password"),
        ("log_in", "failed", "code"),
        ("log_in_with_code", "done", ""),
        ("offer_totp", "done", ""),
        ("confirm_totp", "done", ""),
        ("confirm_identity", "failed", ""),
        ("confirm_identity", "done", ""),
        ("change_password", "failed", ""),
        ("log_out", "done", ""),
    }
    told = "".join(row["line"] for row in rows)
    assert not [secret for secret in (PASSWORD, OTHER_PASSWORD, THIRD_PASSWORD, codes[0]) if secret in told]
