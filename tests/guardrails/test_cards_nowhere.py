"""One card number through every way in, and behind their back into what we write: no table, key, mail or log has it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from prometheus_client import generate_latest

from infra.sandbox.oidc import OIDCProvider
from infra.sandbox.oidc_tokens import OIDCKnobs
from infra.sandbox.receiver import Receiver, ReceiverKnobs
from service.core import masking, telemetry
from service.core.context import SYSTEM, Caller, Context
from service.core.crypto import keyed_hash
from service.core.ids import new_id
from service.core.logging import get_logger
from service.features.imports.flows.run import take_turn
from service.guardrails import audit, jobs
from service.guardrails.cards import MASK
from service.guardrails.inbox import opened
from service.guardrails.jobs import Retry
from service.guardrails.jobs.registry import JOBS
from service.guardrails.permissions import Role
from service.integrations.webhooks import RESPONSE_BYTES, WebhookSender, new_secret
from tests.features.accounts.test_provider import There, arrive, leave
from tests.features.erasure.canary import in_redis, in_store, in_tables
from tests.features.erasure.world import World
from tests.features.notifications.office import Office
from tests.guardrails.jobs_at_work import drain
from tests.support.stripe import event_body, post

pytest_plugins = ("tests.guardrails.durability", "tests.features.erasure.planet")

PAN = "4000002760003184"
"""Stripe's test number for a card that asks each time: no other test uses it."""
WRITTEN = "4000 0027 6000 3184"
OURS = ("4000003800000446", "4000 0038 0000 0446")
"""The number of the test that takes the mask away: what it leaves in the log for good is no other test's find."""
HEADERS = (
    "user-agent", "referer", "x-request-id", "traceparent", "accept-language", "if-none-match", "if-match",
    "hx-current-url", "x-forwarded-proto", "from", "cookie", "authorization", "sec-fetch-dest", "content-language",
)  # fmt: skip


@pytest.fixture(autouse=True)
def healthy(oidc: OIDCProvider) -> Iterator[None]:
    yield
    oidc.knobs = OIDCKnobs()


@pytest.fixture
async def there() -> AsyncIterator[There]:
    async with httpx.AsyncClient() as browser:
        yield There(browser)


async def left(world: World, capfd: pytest.CaptureFixture[str], numbers: tuple[str, str] = (PAN, WRITTEN)) -> set[str]:
    """Every place that has it, in one piece or in groups: columns, keys, objects, sent mails, the log, the metrics."""
    found = set()
    async with await world.factory.client() as visitor:
        await visitor.page("/login")
    for number in numbers:
        found |= {f"column {one}" for one in await in_tables(world.superuser, number)}
        found |= {f"key {one}" for one in await in_redis(world.resources.redis, number)}
        found |= {f"object {one}" for one in await in_store(world.resources, number)}
    bodies = [opened(dict(row)) for row in await world.superuser.fetch("SELECT * FROM inbox WHERE body IS NOT NULL")]
    metrics, log = generate_latest(telemetry.REGISTRY).decode(), capfd.readouterr().out
    assert '"event":"request"' in log, "the scan saw no log"
    assert "http_request" in metrics, "the scan saw no metrics"
    for place, text in (
        ("sealed messages", repr(bodies)), ("log", log), ("metrics", metrics),
        ("mails", repr(list(world.sendgrid.inbox.messages))),
    ):  # fmt: skip
        found |= {place} if any(number in text for number in numbers) else set()
    return found


async def test_no_header_of_a_request_leaves_one(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Also in front of an error, of a login and of a page that is not there; a proxy hands on what its client chose."""
    person, asked = await world.factory.person(Role.OWNER), 0
    for value in (PAN, WRITTEN.replace(" ", "-")):
        headers = dict.fromkeys(HEADERS, value) | {
            "traceparent": f"00-{uuid4().hex}-{PAN}-01", "cookie": f"session={value}; theme={value}",
            "referer": f"http://elsewhere.example/?card={value}", "authorization": f"Bearer {value}",
        }  # fmt: skip
        for path in ("/", "/login", "/dashboard", "/nowhere", "/api/v1/indicators", "/livez", "/metrics"):
            async with await world.factory.client() as visitor:
                answer = await visitor.get(path, headers=headers)
            asked += 1
            assert answer.status_code < 500
            assert value not in f"{answer.text} {answer.headers}", path
        async with await world.factory.client() as browser:
            browser.http.headers["user-agent"] = f"Firefox {value}"
            browser.http.headers["x-request-id"] = value
            await browser.submit("/login", page="/login", email=person.email, password="not it, not it")
            await browser.submit("/forgot", page="/forgot", email=person.email)
    assert asked == 14
    assert await left(world, capfd) == set()


async def test_what_others_tell_us_leaves_none(
    world: World, oidc: OIDCProvider, there: There, capfd: pytest.CaptureFixture[str]
) -> None:
    # A login provider: the address is refused in a sentence, the name masked, the number of a person hashed.
    async with await world.factory.client() as visitor:
        back = await there.log_in(await leave(visitor), f"{PAN}@example.com")
        assert (await arrive(visitor, back)).headers["location"] == "/login"
        assert "looks like a card number" in await visitor.page("/login")
        oidc.knobs = OIDCKnobs(subject=PAN)
        for _ in range(2):  # known again by its hash
            back = await there.log_in(
                await leave(visitor), f"{uuid4().hex[:8]}.{WRITTEN.replace(' ', '.')}@example.com"
            )
            await arrive(visitor, back)
    async with await world.factory.client() as visitor:
        email = f"{uuid4().hex[:8]}@example.com"
        assert (await arrive(visitor, await there.log_in(await leave(visitor), email))).status_code == 303
        assert (await arrive(visitor, await there.log_in(await leave(visitor), email))).status_code == 303
    subject = f"hash-{keyed_hash('identity.subject', PAN).hex()}"
    kept = "SELECT count(*) FROM external_identities WHERE subject = $1"
    assert await world.superuser.fetchval(kept, subject) == 1
    # Stripe, in a text, as a number and as an id; SendGrid, which quotes other servers.
    about = {"id": f"sub_{PAN}", "object": "subscription", "customer": "cus_nobody", "note": WRITTEN, "n": int(PAN)}
    body = event_body("customer.subscription.updated", about, event_id=f"evt_{uuid4().hex}")
    assert (await post(world.factory.url, body)).text == "new"
    office = Office(world.sendgrid, world.resources, world.superuser, world.factory, world.factory.url)
    event = office.event("gone@example.com", "bounce", type="bounce", reason=f"550 {WRITTEN} unknown", status=PAN)
    assert (await office.post(event)).text == "1 new"
    assert await left(world, capfd) == set()
    rows = await world.superuser.fetch("SELECT * FROM inbox WHERE body IS NOT NULL ORDER BY id")
    stripe, sendgrid = (orjson.loads(opened(dict(row))) for row in rows)
    assert stripe["data"]["object"] == about | {"id": f"sub_{MASK}", "note": MASK, "n": MASK}
    assert sendgrid["reason"] == f"550 {MASK} unknown"
    await office.work_off()
    assert await left(world, capfd) == set()


async def test_a_file_says_it_in_its_name_its_fields_and_its_rows(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    """Everything but the content of what is uploaded; an import's file is gone when its rows were read."""
    organization = await world.factory.organization()
    await world.factory.plan(organization)
    person, rows = await world.factory.person(Role.OWNER, organization), f"time,value\n2026-03-31,{PAN}\n"
    indicator = await world.factory.indicator(organization, "Visits")
    async with await world.factory.client(person) as client:
        fields: dict[str, Any] = {"csrf": client.csrf, "indicator": str(indicator)}
        for name, content in ((f"scan {WRITTEN}.csv", rows), (f"{PAN}.csv", f"time,value,{PAN}\n2026-03-31,1\n")):
            for more in ({}, {PAN: "x"}, {"zone": PAN}, {"mode": WRITTEN}):
                file = {"file": (name, content.encode(), f"text/{PAN}", {"x-note": PAN})}
                sent = await client.http.post(
                    "/imports/new", data=fields | more, files=file, headers={"origin": client.origin}
                )
                assert sent.status_code == (422 if more else 303), sent.text[:2_000]
                assert PAN not in f"{sent.text} {sent.headers}"
        picture = {"file": (f"{WRITTEN}.txt", b"nothing", f"text/{PAN}")}
        await client.http.post("/files", data=fields, files=picture, headers={"origin": client.origin})
    assert world.resources.maintenance is not None
    while await take_turn(world.resources, world.resources.maintenance):
        pass
    assert await left(world, capfd) == set()
    told = await world.superuser.fetch("SELECT name, state FROM imports WHERE organization_id = $1", organization)
    assert {row["name"] for row in told} == {f"scan {MASK}.csv", f"{MASK}.csv"}


async def test_what_a_customers_server_answers_is_kept_without(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Also when the number stands where the answer is cut off: most of its digits would be left."""
    sender = world.resources.get(WebhookSender)
    with Receiver() as receiver:
        for before in (0, RESPONSE_BYTES - 8):
            receiver.knobs = ReceiverKnobs(says=f"{'x' * before} {WRITTEN} {PAN} thanks")
            reply = await sender.send(receiver.url, "{}", "msg_1", [new_secret()])
            assert len(reply.body) <= RESPONSE_BYTES
            assert "4000" not in reply.body
            assert before or reply.body == f" {MASK} {MASK} thanks"


class Broken(Exception):
    """Whatever it says is not kept."""


async def write_everywhere(world: World) -> None:
    """What the service writes of its own, each given the number behind every door's back."""
    (number, written), log, organization = OURS, get_logger(), await world.factory.organization()
    person = await world.factory.person(Role.OWNER, organization)

    @jobs.job(retry=Retry(attempts=1))
    async def told(ctx: Context, note: str) -> None:
        ctx.note("probe.told", "refused", reason=f"job {note}", seen=note)
        raise Broken(f"cannot pay with {number}")

    async with world.resources.database.unit_of_work(tenant=organization) as work:
        ctx = Context(work, world.resources, SYSTEM, Caller("probe"), organization_id=organization)
        await audit.record(
            ctx, "probe.write", audit.Changes("probes", new_id()),
            {"reason": f"paid with {written}", "number": int(number), "list": [number], number: 1},
        )  # fmt: skip
        await jobs.enqueue(ctx, told, note=f"pay with {number}")
    await drain(world.resources)
    with telemetry.root_span("GET /probe", SpanKind.SERVER, number=int(number), texts=[written]):
        telemetry.annotate(note=number, more=[int(number)])
    log.info("probe", note=number, number=int(number), error=Broken(number), things={number}, by={"deep": [written]})
    try:
        raise Broken(written)
    except Broken:
        log.exception("probe failed")
    office = Office(world.sendgrid, world.resources, world.superuser, world.factory, world.factory.url)
    await office.send(person.email)
    async with await world.factory.client(person) as client:
        await client.page("/dashboard")


async def spans_of(world: World) -> str:
    """All that the tracer sends away meanwhile."""
    exporter = InMemorySpanExporter()
    telemetry.configure_tracing(world.resources.settings.model_copy(update={"trace_sample_ratio": 1.0}), exporter)
    try:
        await write_everywhere(world)
    finally:
        await telemetry.stop_tracing()
        telemetry.configure_tracing(world.resources.settings)
    return "".join(span.to_json() for span in exporter.get_finished_spans())


async def test_what_we_write_ourselves_has_none(
    world: World, no_other_jobs: None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = await spans_of(world)
    assert "GET /probe" in spans
    assert not any(number in spans for number in OURS)
    assert await left(world, capfd, OURS) == set()
    monkeypatch.setattr(masking, "maskers", [])
    JOBS.clear()
    assert OURS[0] in await spans_of(world), "without the mask it is told"
    found = await left(world, capfd, OURS)
    assert {"log", "column audit_log.facts"} <= found, "without the mask it is written"
