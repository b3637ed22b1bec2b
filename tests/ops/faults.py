"""The faults that the runbooks are for: each is made in a running product, followed as its page says, and undone."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx
import pytest

from infra.sandbox.processes import wait_until
from ops import local
from ops.runbook import execute, load_all
from service.core import clock
from service.core.settings import Settings
from service.features.accounts.models.totp import code_at
from service.features.webhooks.flows.claim import LOCK as CLAIM_LOCK
from tests.support.client import Client

ROOT = Path(__file__).resolve().parents[2]
PAGES = {page.path.stem: page for page in load_all()}


def matching(name: str, kind: str, patience: float = 0) -> set[str]:
    """Names of the steps of one kind that match, after waiting at most `patience` seconds for all of them."""
    page = PAGES[name]
    missing = {step.name for step in page.of(kind)}

    def all_match() -> bool:
        missing.difference_update([step for step in missing if matches(name, step)])
        return not missing

    wait_until(all_match, timeout=patience, every=0.5)
    return {step.name for step in page.of(kind)} - missing


def drills() -> dict[str, str]:
    """Fault -> the page that names it."""
    return {page.front["drill"]["fault"]: name for name, page in PAGES.items()}


def names(name: str, kind: str) -> set[str]:
    """All steps of one kind."""
    return {step.name for step in PAGES[name].of(kind)}


def matches(name: str, step_name: str) -> bool:
    """Run one step as the page has it."""
    page = PAGES[name]
    step = next(step for step in page.steps if step.name == step_name)
    return execute(step, [*page.front["needs"], "BALLAST_HOME"]).matched


@contextmanager
def load_on(address: str, path: str, users: int) -> Iterator[None]:
    """So many people who ask for a page again and again until the block ends."""
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=address, timeout=20) as client:
            while not stop.is_set():
                client.get(path)

    people = [threading.Thread(target=ask) for _ in range(users)]
    for one in people:
        one.start()
    try:
        yield
    finally:
        stop.set()
        for one in people:
            one.join()


@contextmanager
def paused(name: str) -> Iterator[None]:
    pid = local.find(name)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def assert_ended(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError)):
        await connection.execute("COMMIT")


@dataclass(frozen=True)
class Stack:
    """The running product, a way into its database, and two people who forgot a transaction there."""

    address: str
    superuser: asyncpg.Connection[asyncpg.Record]
    blocker: asyncpg.Connection[asyncpg.Record]
    idler: asyncpg.Connection[asyncpg.Record]


async def lose_redis(stack: Stack, name: str) -> None:
    with paused("redis"):
        # It hangs, and neither its log nor its disk is full.
        assert matching(name, "diagnose") == {"redis-does-not-answer", "redis-is-down"}
        assert httpx.get(f"{stack.address}/livez", timeout=5).status_code == 200


async def stall_the_worker(stack: Stack, name: str) -> None:
    with paused("worker"):
        # Ten minutes of standing still, without waiting for them.
        await stack.superuser.execute("UPDATE worker_heartbeats SET beat_at = now() - interval '10 minutes'")
        await stack.superuser.execute(
            "INSERT INTO pgqueuer (priority, entrypoint, status, execute_after)"
            " VALUES (0, 'ops.waits', 'queued', now() - interval '10 minutes')"
        )
        assert matching(name, "diagnose") == names(name, "diagnose")
        await stack.superuser.execute("DELETE FROM pgqueuer WHERE entrypoint = 'ops.waits'")


async def give_a_job_up(stack: Stack, name: str) -> None:
    await stack.superuser.execute(
        "INSERT INTO pgqueuer (priority, entrypoint, status, execute_after, headers)"
        """ VALUES (0, 'jobs.forget_old_entries', 'failed', now() - interval '1 day', '{"error": "Unavailable"}')"""
    )
    assert matching(name, "diagnose", patience=60) == names(name, "diagnose")
    assert matches(name, "run-again")


async def leave_a_job_lying(stack: Stack, name: str) -> None:
    await stack.superuser.execute(
        "INSERT INTO pgqueuer (priority, entrypoint, status, execute_after)"
        " VALUES (0, 'ops.nobody_runs_it', 'queued', now() - interval '2 days')"
    )
    assert matching(name, "diagnose", patience=60) == names(name, "diagnose")
    assert matches(name, "set-aside-stuck-jobs")


A_CUSTOMER = """
    INSERT INTO billing_customers
        (id, organization_id, stripe_customer_id, livemode, created_at, dirty_gen, dirty_since, next_attempt_at)
    SELECT gen_random_uuid(), id, $1, false, now(), 1, now() - interval '10 minutes', now() + $2::interval
    FROM organizations WHERE id NOT IN (SELECT organization_id FROM billing_customers) ORDER BY created_at, id LIMIT 1
"""


def a_customer_at_stripe() -> str:
    """One that is really there: what Stripe does not know is a wrong key, and waits for a person."""
    environment = local.environment()
    key = environment.get("STRIPE_SECRET_KEY") or "sk_test_ballast_sandbox"
    stripe = environment["STRIPE_API_BASE"]
    httpx.post(f"{stripe}/api/knobs", json={"suppress": 1}).raise_for_status()  # its event would have it read at once
    made = httpx.post(f"{stripe}/v1/customers", auth=(key, ""), data={"name": "Drill"})
    httpx.post(f"{stripe}/api/knobs", json={"suppress": 0}).raise_for_status()
    return str(made.raise_for_status().json()["id"])


async def put_off_a_reading(stack: Stack, name: str) -> None:
    await stack.superuser.execute(A_CUSTOMER, a_customer_at_stripe(), timedelta(hours=1))
    assert matching(name, "diagnose", patience=60) == names(name, "diagnose")
    assert matches(name, "try-now")


async def give_a_plan_away(stack: Stack, name: str) -> None:
    given = await stack.superuser.fetchval(
        "INSERT INTO entitlements (organization_id, plan, grants, source, version, changed_at)"
        " SELECT id, 'business', '{}', 'somebody', 1, now() FROM organizations"
        " WHERE id NOT IN (SELECT organization_id FROM entitlements) ORDER BY id LIMIT 1 RETURNING organization_id"
    )
    # What the hourly comparison will say, without waiting for it.
    drift = '{"entitlement_without_cause": 1}'
    await stack.superuser.execute("UPDATE billing_sweeps SET drift = $1::jsonb WHERE stream = 'objects'", drift)
    assert matching(name, "diagnose", patience=60) == names(name, "diagnose")
    await stack.superuser.execute("DELETE FROM entitlements WHERE organization_id = $1", given)
    assert matches(name, "compare-again")


async def lose_stripe(stack: Stack, name: str) -> None:
    customer = a_customer_at_stripe()
    knobs = f"{local.environment()['STRIPE_API_BASE']}/api/knobs"
    httpx.post(knobs, json={"api_error_before": 1}).raise_for_status()
    await stack.superuser.execute(A_CUSTOMER, customer, timedelta())
    assert matching(name, "diagnose", patience=60) == names(name, "diagnose")
    httpx.delete(knobs).raise_for_status()
    assert matches(name, "try-now")


async def lose_the_mail_provider(stack: Stack, name: str) -> None:
    """Somebody forgot their password meanwhile; their mail leaves once, when the provider is back."""
    knobs = f"{local.environment()['SENDGRID_API_BASE']}/api/knobs"
    httpx.post(knobs, json={"status": 429}).raise_for_status()
    with httpx.Client(base_url=stack.address) as browser:
        token = re.search(r'name="csrf" value="([^"]+)"', browser.get("/forgot").text)
        assert token is not None
        browser.post("/forgot", data={"csrf": token[1], "email": "owner@ballast.example"})
    asked = "UPDATE sent_mails SET first_tried_at = now() - interval '11 minutes' WHERE template LIKE '%/reset'"
    for _ in range(60):
        if await stack.superuser.execute(asked) != "UPDATE 0":
            break
        await asyncio.sleep(0.5)
    # The product has sent mails while it started: nothing was taken since then.
    await stack.superuser.execute("UPDATE sent_mails SET accepted_at = accepted_at - interval '1 hour'")
    assert matching(name, "diagnose", patience=60) == names(name, "diagnose")
    httpx.delete(knobs).raise_for_status()
    assert matches(name, "try-now")


A_WHILE_AGO = "UPDATE files SET created_at = now() - interval '20 minutes' WHERE id = $1"


async def lose_the_scanner(stack: Stack, name: str) -> None:
    """A program sends a file meanwhile: it is taken, handed to nobody, and clean when the scanner is back."""
    knobs = f"http://127.0.0.1:{local.environment()['BALLAST_SCANNER_PORT']}/api/knobs"
    httpx.post(knobs, json={"down": True}).raise_for_status()
    logins = json.loads(Path(os.environ["BALLAST_HOME"], "logins.json").read_text())["logins"]
    headers = {"Authorization": f"Bearer {logins[0]['api_key']}", "Idempotency-Key": "drill"}
    with httpx.Client(base_url=f"{stack.address}/api/v1", headers=headers) as program:
        sent = program.post("/files", files={"file": ("drill.txt", b"drill")}).raise_for_status().json()
        await stack.superuser.execute(A_WHILE_AGO, UUID(sent["id"]))
        assert matching(name, "diagnose", patience=60) == names(name, "diagnose")
        assert program.get(f"/files/{sent['id']}/link").status_code == 409
        httpx.delete(knobs).raise_for_status()
        assert matches(name, "look-now")
        assert wait_until(lambda: program.get(f"/files/{sent['id']}").json()["state"] == "clean", timeout=30, every=0.5)
        link = program.get(f"/files/{sent['id']}/link").raise_for_status().json()["url"]
    assert httpx.get(link).content == b"drill"


AN_IMPORT = """
    INSERT INTO imports (id, organization_id, name, size, object_key, mode, zone, decimal, state, created_at, served_at,
        leased_until, indicator_id)
    SELECT gen_random_uuid(), organization_id, 'drill.csv', $1, 'imports/drill', 'good', 'UTC', 'point', 'waiting',
        now() - interval '40 minutes', now() - interval '40 minutes', now() + interval '1 hour', id
    FROM indicators WHERE deleted_at IS NULL ORDER BY created_at, id LIMIT 1
"""


async def forget_an_import(stack: Stack, name: str) -> None:
    rows = b"time,value\n2026-01-01,1\n"
    object_of = Path(local.environment()["STORAGE_URL"].removeprefix("file:"), "imports", "drill")
    object_of.parent.mkdir(parents=True, exist_ok=True)
    object_of.write_bytes(rows)
    await stack.superuser.execute(AN_IMPORT, len(rows))
    assert matching(name, "diagnose", patience=60) == names(name, "diagnose")
    assert matches(name, "go-on-now")


async def forget_a_copy(stack: Stack, name: str) -> None:
    await stack.superuser.execute(
        "INSERT INTO data_exports (id, user_id, scope, state, asked_at, leased_until, done, parts, rows, size, key,"
        " missing, remark, attempts) SELECT gen_random_uuid(), id, 'person', 'waiting', now() - interval '3 hours',"
        " now() + interval '1 hour', 0, 0, 0, 0, '', '{}', '', 1 FROM users WHERE deleted_at IS NULL AND NOT is_staff"
        " AND id NOT IN (SELECT user_id FROM data_exports) ORDER BY id LIMIT 1"
    )
    assert matching(name, "diagnose", patience=10) == names(name, "diagnose")
    assert matches(name, "go-on-now")


async def forget_a_letter(stack: Stack, name: str) -> None:
    # Of somebody whom nothing of ours names any more: once it is due, the machine is done with it in a moment.
    await stack.superuser.execute(
        "INSERT INTO erasure_requests"
        " (id, user_id, state, source, reason, requested_at, began_at, held, next_attempt_at)"
        " VALUES (gen_random_uuid(), gen_random_uuid(), 'executing', 'staff', 'A letter', now() - interval '21 days',"
        " now() - interval '20 days', 'Stripe is away or refuses; it is asked again.', now() + interval '1 hour')"
    )
    assert matching(name, "diagnose", patience=60) == names(name, "diagnose")
    assert matches(name, "go-on-now")


async def spoil_the_setup(stack: Stack, name: str) -> None:
    variables = local.environment()
    key = variables.get("STRIPE_SECRET_KEY") or Settings(_env_file=None).stripe_secret_key.get_secret_value()
    with httpx.Client(base_url=variables["STRIPE_API_BASE"], headers={"Authorization": f"Bearer {key}"}) as stripe:
        price = stripe.get("/v1/prices").json()["data"][0]["id"]
        stripe.post(f"/v1/prices/{price}", data={"active": "false"}).raise_for_status()
        await stack.superuser.execute(
            "INSERT INTO inbox (source, realm, external_id, type, facts, state, reason, attempts, received_at)"
            " VALUES ('stripe', 'live', 'evt_ops', 'invoice.paid', '{}', 'ignored', 'mode', 0, now())"
        )
        assert matching(name, "diagnose", patience=60) == names(name, "diagnose")
        stripe.post(f"/v1/prices/{price}", data={"active": "true"}).raise_for_status()
    await stack.superuser.execute("DELETE FROM inbox WHERE external_id = 'evt_ops'")


async def lose_a_source(stack: Stack, name: str) -> None:
    knobs = f"{local.environment()['GITHUB_API_BASE']}/api/knobs"
    httpx.post(knobs, json={"failing": True}).raise_for_status()
    await stack.superuser.execute("UPDATE sources SET next_pull_at = now() WHERE kind = 'github'")
    assert matching(name, "diagnose", patience=15) == names(name, "diagnose")
    httpx.delete(knobs).raise_for_status()
    assert matches(name, "try-now")


async def keep_the_turn(stack: Stack, name: str) -> None:
    holder = await asyncpg.connect(local.as_superuser(local.environment()).url("postgres", "ballast"))
    await holder.execute(f"SELECT pg_advisory_lock({CLAIM_LOCK})")
    await stack.superuser.execute(
        "UPDATE webhook_deliveries SET state = 'waiting', next_attempt_at = now() - interval '10 minutes'"
    )
    assert matching(name, "diagnose", patience=20) == names(name, "diagnose")
    assert matches(name, "end-the-session")
    await assert_ended(holder)


async def hold_a_lock(stack: Stack, name: str) -> None:
    await stack.blocker.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
    with load_on(stack.address, **PAGES[name].front["drill"]["load"]):
        assert matching(name, "diagnose", patience=60) == names(name, "diagnose")
        # Each cure alone: the second would hide that the first does nothing.
        assert matches(name, "end-the-blocking-session")
        await assert_ended(stack.blocker)
    assert matches(name, "end-idle-transactions")
    await assert_ended(stack.idler)


async def break_the_glass(stack: Stack, name: str) -> None:
    """For the seeded owner, who is no staff; the command is what the page ends again."""
    email = await stack.superuser.fetchval(
        "SELECT email FROM users WHERE NOT is_staff AND password_hash IS NOT NULL AND email_verified_at IS NOT NULL"
        " AND deleted_at IS NULL ORDER BY id LIMIT 1"
    )
    words = ["break-glass", "open", email, "--reason", "A drill of the page about it."]
    opened = subprocess.run(["ops/on", "service", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert opened.returncode == 0, opened.stderr
    assert matching(name, "diagnose", patience=60) == names(name, "diagnose")
    assert matches(name, "end-all-rights")


async def leave_it_unreviewed(stack: Stack, name: str) -> None:
    logins = json.loads(Path(os.environ["BALLAST_HOME"], "logins.json").read_text())["logins"]
    login = next(one for one in logins if one["role"] == "staff")
    grant = await stack.superuser.fetchval("SELECT id FROM break_glass_grants WHERE reviewed_at IS NULL")
    if grant is None:
        await break_the_glass(stack, drills()["break-glass is opened"])
        grant = await stack.superuser.fetchval("SELECT id FROM break_glass_grants WHERE reviewed_at IS NULL")
    assert matching(name, "diagnose", patience=60) == names(name, "diagnose")
    assert matches(name, "what-was-done")
    words = [
        "break-glass",
        "review",
        str(grant),
        "--by",
        login["email"],
        "--note",
        "It was a drill, and nothing was done.",
    ]
    reviewed = subprocess.run(["ops/on", "service", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert reviewed.returncode == 0, reviewed.stderr
    assert matching(name, "diagnose", patience=60) == names(name, "diagnose"), "a note from a shell is no review"
    async with Client(stack.address) as browser:
        await browser.submit("/login", email=login["email"], password=login["password"])
        code = code_at(login["authenticator_key"].encode(), clock.now())
        assert (await browser.submit("/login/code", code=code)).status_code == 303
        confirmed = await browser.submit(
            f"/staff/break-glass/{grant}/review", reason="As I had it noted from the shell."
        )
        assert confirmed.status_code == 303, confirmed.text


# In this order: the forgotten transactions must have grown old before the last one.
FAULTS: dict[str, Callable[[Stack, str], Awaitable[None]]] = {
    "pause redis": lose_redis,
    "pause worker": stall_the_worker,
    "a job that has failed for good": give_a_job_up,
    "a job that nobody runs": leave_a_job_lying,
    "a reading that was put off": put_off_a_reading,
    "Stripe answers 500": lose_stripe,
    "the mail provider answers 429": lose_the_mail_provider,
    "a price is archived": spoil_the_setup,
    "GitHub answers 500": lose_a_source,
    "the scanner hangs up": lose_the_scanner,
    "an import that nobody goes on with": forget_an_import,
    "a copy of data that nobody makes": forget_a_copy,
    "a request to be erased that nobody answers": forget_a_letter,
    "a plan that nobody pays for": give_a_plan_away,
    "nobody may claim a webhook": keep_the_turn,
    "break-glass is opened": break_the_glass,
    "break-glass waits for its review": leave_it_unreviewed,
    "a session holds alembic_version locked": hold_a_lock,
}
