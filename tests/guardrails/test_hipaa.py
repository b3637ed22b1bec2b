"""The hipaa profile, on a real application that runs under it; and beside it, what passes without the profile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import asyncpg
import orjson
import pytest

from infra.sandbox.mail import MailSink
from infra.sandbox.ports import free_port
from service.app import close_resources, create_resources
from service.core import clock
from service.core.context import SYSTEM, Actor, ActorKind, Caller, Context, Resources
from service.core.database import UnitOfWork
from service.core.errors import Unavailable
from service.core.ids import new_id
from service.core.settings import InsecureSettings, Profile, Settings
from service.doctor import CHECKS, Trouble
from service.features.support import actions as support
from service.guardrails import audit, break_glass, hipaa
from service.guardrails.audit import AuditRow
from service.guardrails.audit.log import INSERT
from service.guardrails.permissions import Role
from service.guardrails.retention import retention_of
from service.guardrails.sessions import cookie_name
from service.web.mail import deliver
from tests.core.test_settings import CURVE_KEY, KEYS, SAFE, SECRET, SENDGRID, US
from tests.features.accounts.test_second_factor import turn_on
from tests.support import captured_sql
from tests.support.client import Client
from tests.support.factories import PASSWORD, Factory, Person
from tests.support.servers import RunningServer

HIPAA: dict[str, object] = SAFE | {"compliance_profile": "hipaa"}
SIGNED = "hosting=2026-01-31,storage=2026-01-31,smtp=2026-01-31,stripe=2026-01-31"
UNSTORED = "hosting=2026-01-31,smtp=2026-01-31,stripe=2026-01-31"
UNSOLD: dict[str, object] = dict.fromkeys(("stripe_secret_key", "stripe_webhook_secrets", "stripe_livemode"))
AMERICAN = US | {"mail_through": "sendgrid", "sendgrid_api_key": f"SG.{SECRET}",
                 "sendgrid_api_base": "https://api.sendgrid.com"}  # fmt: skip
POLL = {"x-unattended": "1"}


@pytest.fixture(scope="module")
def strict(settings: Settings) -> Settings:
    port = free_port()
    return settings.model_copy(update={"compliance_profile": Profile.HIPAA, "base_url": f"http://127.0.0.1:{port}"})


@pytest.fixture(scope="module")
def clinic(strict: Settings) -> Iterator[RunningServer]:
    with RunningServer(strict) as running:
        yield running


@pytest.fixture(scope="session")
async def strict_resources(settings: Settings) -> AsyncIterator[Resources]:
    made = create_resources(settings.model_copy(update={"compliance_profile": Profile.HIPAA}))
    yield made
    await close_resources(made)


@pytest.fixture(params=[True, False], ids=["hipaa", "without"])
def on(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def place(
    on: bool, clinic: RunningServer, strict_resources: Resources, factory: Factory, superuser: asyncpg.Connection[Any]
) -> Factory:
    """Plants in the same database; people log in under the profile, or beside it."""
    return Factory(superuser, strict_resources, clinic.url) if on else factory


async def reads(place: Factory, person: Person) -> list[asyncpg.Record]:
    found: list[asyncpg.Record] = await place.superuser.fetch(
        "SELECT * FROM audit_log WHERE organization_id = $1 AND outcome = 'read' ORDER BY id", person.organization_id
    )
    return found


async def test_a_password_alone_reaches_the_page_for_a_second_factor_only(
    place: Factory, on: bool, stack: AsyncExitStack
) -> None:
    person = await place.person(Role.OWNER)
    client: Client = await stack.enter_async_context(await place.client(person))
    shown = await client.get("/indicators")
    if not on:
        assert shown.status_code == 200
        return
    assert (shown.status_code, shown.headers["location"]) == (303, "/account/security?next=/indicators")
    for path in ("/dashboard", "/members", "/account", "/organizations", "/notifications"):
        answer = await client.get(path, headers={"accept": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (403, "second-factor-required"), path
    written = await client.submit("/indicators/new", page="/account/security", name="Patients")
    assert written.headers["location"].startswith("/account/security")
    assert "Set up codes from an app to go on" in await client.page("/account/security")
    assert (await client.api("GET", "/indicators")).status_code == 200, "a program has a key"
    await turn_on(client)
    assert (await client.get("/indicators")).status_code == 200
    assert "Set up codes" not in await client.page("/account/security")
    # What leaves them out again takes the way in again.
    await client.submit("/account/totp/removal", page="/account/security")
    assert (await client.get("/indicators")).status_code == 303


async def test_a_visit_of_support_needs_no_second_factor_of_the_visited(
    place: Factory, on: bool, stack: AsyncExitStack
) -> None:
    """Staff have proved theirs to begin it; the session is the customer's, who may have none."""
    staff, owner = await place.person(staff=True), await place.person(Role.OWNER)
    browser = await stack.enter_async_context(await place.client(staff, "password", "totp"))
    why = {"organization_id": str(owner.organization_id), "reason": "They wrote that a page shows nothing."}
    entered = await browser.submit(f"/staff/people/{owner.id}/impersonation", page="/staff", **why)
    assert (entered.status_code, entered.headers["location"]) == (303, "/dashboard")
    for path in ("/dashboard", "/indicators"):
        answer = await browser.get(path)
        assert (answer.status_code, "you are in the account of" in answer.text) == (200, True), path


async def test_an_emergency_opens_without_an_app(place: Factory, on: bool, stack: AsyncExitStack) -> None:
    """The code that the command printed stands in for the app (164.312(a)(2)(ii)), for as long as the rights last."""
    person, why = (
        await place.person(Role.OWNER, password=PASSWORD),
        "Nobody of staff can log in: the identity provider is away.",
    )
    async with place.resources.database.unit_of_work() as work:
        ctx = Context(work, place.resources, SYSTEM, Caller("command line"))
        opened = await support.open_break_glass(ctx, person.email, why, 60)
    client = await stack.enter_async_context(await place.client())
    await client.submit("/login", email=person.email, password=PASSWORD)
    await client.submit("/login/code", code=opened.code)
    for path in ("/staff", "/dashboard", "/indicators"):
        assert (await client.get(path)).status_code == 200, path
    async with place.resources.database.unit_of_work() as work:
        await support.close_break_glass(Context(work, place.resources, SYSTEM, Caller("command line")), person.email)
    again = await stack.enter_async_context(await place.client(person, "password", break_glass.METHOD))
    assert (await again.get("/indicators")).status_code == (303 if on else 200), "over, and it proves nothing more"


async def test_whoever_goes_away_is_logged_off(
    place: Factory, factory: Factory, on: bool, stack: AsyncExitStack
) -> None:
    """Pages that go on asking by themselves keep nobody logged in; people do. Remembered or not."""
    person = await place.person(Role.MEMBER)
    client = await stack.enter_async_context(await place.client(person, "password", "totp"))
    page = await client.get("/indicators")
    assert ("You will be logged off in two minutes" in page.text) is on
    assert page.headers.get("refresh") == ("905; url=/login" if on else None)
    remembered, login = await place.log_in(person, "password", "totp", remembered=True)
    assert login.remembered is not on
    # Begun before the profile was turned on: it would rest for weeks.
    earlier, login = await factory.log_in(person, "password", "totp", remembered=True)
    assert login.remembered
    old = await stack.enter_async_context(Client(place.url, cookies={cookie_name(place.resources.settings): earlier}))
    assert (await old.get("/indicators")).status_code == (303 if on else 200)
    for _ in range(3):
        clock.advance(timedelta(minutes=6))
        assert (await client.get("/indicators")).status_code == 200, "somebody is there"
    for minutes in (6, 6):
        clock.advance(timedelta(minutes=minutes))
        assert (await client.get("/indicators", headers=POLL)).status_code == 200
    clock.advance(timedelta(minutes=4))
    gone = await client.get("/indicators")
    assert gone.status_code == (303 if on else 200)
    assert not on or gone.headers["location"].startswith("/login")
    client.http.cookies.set("sid", remembered, domain=client.http.base_url.host)
    assert (await client.get("/indicators")).status_code == (303 if on else 200), "whatever was ticked at the log-in"


async def test_who_saw_what_is_recorded_before_the_answer_leaves(
    place: Factory, on: bool, stack: AsyncExitStack
) -> None:
    person = await place.person(Role.OWNER)
    assert person.organization_id is not None
    indicators = {str(await place.indicator(person.organization_id)) for _ in range(25)}
    client = await stack.enter_async_context(await place.client(person, "password", "totp"))
    assert (await client.get("/indicators")).status_code == 200
    listed = (await client.api("GET", "/indicators?limit=100")).json()
    assert {one["id"] for one in listed["items"]} == indicators
    rows = await reads(place, person)
    if not on:
        assert rows == [], "without the profile nobody writes down what people read"
        return
    by = {kind: [row for row in rows if row["actor_kind"] == kind] for kind in ("user", "api_key")}
    for kind in by:
        [row] = [row for row in by[kind] if row["action"] in ("indicators.list", "indicators.search")]
        facts = orjson.loads(row["facts"])
        assert facts["rows"] == 25
        assert {one for chunk in facts["ids"].values() for one in chunk} == indicators
    assert by["user"][0]["actor_id"] == person.id
    pages = ("/dashboard", "/members", "/account", "/account/sessions", "/audit-log", "/settings", "/files", "/sources",
             "/notifications", "/webhook-endpoints", "/api-keys", "/imports", "/billing")  # fmt: skip
    for path in pages:
        answer = await client.get(path, follow_redirects=True)
        assert answer.status_code in (200, 404), path
    # What is no list says which rows, too: of an indicator's page, of the tiles, of a file's key.
    indicator, file = min(indicators), await place.file(person.organization_id, state="clean")
    assert (await client.get(f"/indicators/{indicator}")).status_code == 200
    await client.get(f"/files/{file}/download")
    facts = {row["action"]: orjson.loads(row["facts"]) for row in await reads(place, person)}
    named = {action: {one for chunk in each["ids"].values() for one in chunk} for action, each in facts.items()}
    assert indicator in named["indicators.detail"]
    assert facts["indicators.detail"]["asked"]["indicator_id"] == indicator
    assert named["indicators.dashboard"] <= indicators
    assert len(named["indicators.dashboard"]) >= 8, "the tiles of the first page"
    assert facts["files.download"]["asked"] == {"file_id": str(file)}
    seen = {row["action"] for row in await reads(place, person)}
    assert len(seen) >= 8, f"the walk left only {seen}"


async def test_strangers_find_no_panel_where_a_second_factor_is_missing(
    place: Factory, on: bool, stack: AsyncExitStack
) -> None:
    stranger = await stack.enter_async_context(await place.client(await place.person(Role.OWNER)))
    assert (await stranger.get("/staff/people")).status_code == 404
    colleague = await stack.enter_async_context(await place.client(await place.person(staff=True)))
    assert (await colleague.get("/staff/people")).status_code == (303 if on else 403), "they are told what to do"


async def test_a_list_that_staff_take_away_is_recorded_too(place: Factory, on: bool, stack: AsyncExitStack) -> None:
    colleague = await place.person(staff=True)
    await place.organization()
    client = await stack.enter_async_context(await place.client(colleague, "password", "totp"))
    taken = (await client.get("/staff/organizations/csv")).text.count("\n") - 1
    reads = await place.superuser.fetch(
        "SELECT facts FROM audit_log WHERE actor_id = $1 AND outcome = 'read' AND facts ? 'ids'", colleague.id
    )
    assert sum(orjson.loads(row["facts"])["rows"] for row in reads) == (taken if on else 0)
    assert taken > 0


async def test_of_a_long_list_no_id_is_left_out(factory: Factory, strict_resources: Resources) -> None:
    """One row of the log has room for two hundred; what is read in thousands is noted in several, by one statement."""
    seen, person = [{"id": new_id()} for _ in range(450)], await factory.person(staff=True)
    async with strict_resources.database.connection() as connection:
        ctx = Context(UnitOfWork(connection), strict_resources, Actor(ActorKind.STAFF, person.id), Caller("test"))
        hipaa.note_read(ctx, "probe.list", seen, {})
        with captured_sql.sent_here() as sent:
            await audit.write_security_events(ctx)
    written = await factory.superuser.fetch("SELECT facts FROM audit_log WHERE actor_id = $1 ORDER BY id", person.id)
    facts = [orjson.loads(row["facts"]) for row in written]
    assert [each["rows"] for each in facts] == [200, 200, 50]
    found = {one for each in facts for chunk in each["ids"].values() for one in chunk}
    assert found == {str(row["id"]) for row in seen}
    assert sent == [INSERT]


async def test_what_cannot_be_recorded_is_not_shown(strict_resources: Resources) -> None:
    async with strict_resources.database.unit_of_work() as work:
        ctx = Context(work, strict_resources, SYSTEM, Caller("test"))
        ctx.note("indicators.list", hipaa.READ, rows=1)
        await work.raw.execute("SAVEPOINT before")
        with pytest.raises(Unavailable, match="could not be recorded"):
            await _while_the_log_is_away(ctx)
        await work.raw.execute("ROLLBACK TO SAVEPOINT before")
        ctx.note("accounts.log_in", "failed")
        await work.raw.execute("SAVEPOINT before")
        await _while_the_log_is_away(ctx)  # nothing was shown, so nothing needs to be kept back
        await work.raw.execute("ROLLBACK TO SAVEPOINT before")


async def _while_the_log_is_away(ctx: Context) -> None:
    with pytest.raises(asyncpg.PostgresError):
        await ctx.work.raw.execute("SELECT 1/0")
    await audit.write_security_events(ctx)


async def test_a_mail_says_nothing_about_anybody(
    place: Factory, on: bool, mailbox: MailSink, stack: AsyncExitStack
) -> None:
    address, resources = f"m{new_id().hex}@example.com", place.resources
    async with resources.database.unit_of_work() as work:
        ctx = Context(work, resources, SYSTEM, Caller("test"))
        await deliver(
            ctx, address, "organizations/mail/invitation", f"test.{new_id()}", None,
            organization="Canary Clinic", inviter="Canary Doctor", role="member", link="https://app.example/join/x",
        )  # fmt: skip
    [mail] = mailbox.to(address)
    words = f"{mail.subject} {mail.text} {mail.html}"
    assert ("Canary" in words) is not on
    assert "https://app.example/join/x" in words


def test_the_trail_is_kept_for_six_years_and_longer() -> None:
    rule = retention_of(AuditRow.__table__)  # type: ignore[arg-type]
    assert rule is not None
    assert rule.days_under(Profile.HIPAA) >= 6 * 366, "164.316(b)(2)(i): six years"
    assert not rule.parent, "it goes with nothing else"


def of(values: dict[str, object]) -> Settings:
    given = {name: value for name, value in values.items() if value is not None}
    return Settings(_env_file=None, **given)  # type: ignore[arg-type]


@pytest.fixture
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("_no_environment")
@pytest.mark.parametrize(
    ("more", "unsigned"),
    [
        ({}, "hosting, smtp, stripe"),
        ({"processor_baas": "hosting=2026-01-31,smtp=2026-01-31"}, "stripe"),
        ({"processor_baas": SIGNED}, ""),
        (SENDGRID | {"processor_baas": SIGNED}, "sendgrid"),
        ({"processor_baas": SIGNED, "scanner_url": "tcp://127.0.0.1:3310"}, "scanner"),
        ({"processor_baas": UNSTORED, "storage_url": "s3://files"} | KEYS, "storage"),
        # A region more brings its own store and its own carrier.
        ({"processor_baas": UNSTORED, "regions": {"us": US}}, "storage"),
        ({"processor_baas": SIGNED, "sendgrid_webhook_keys": CURVE_KEY, "regions": {"us": AMERICAN}}, "sendgrid"),
        # Who gets nothing, or no more than ids and times, need not sign.
        ({"processor_baas": "hosting=2026-01-31,smtp=2026-01-31"} | UNSOLD, ""),
        ({"processor_baas": SIGNED, "otlp_endpoint": "https://collector.acme.test"}, ""),
        ({"compliance_profile": "none"}, ""),
    ],
)
async def test_processors_that_signed_nothing_are_refused_by_name(more: dict[str, object], unsigned: str) -> None:
    settings = of(HIPAA | more)
    if not unsigned:
        hipaa.refuse_unfit(settings)
        return
    with pytest.raises(InsecureSettings, match=f"no business associate agreement with {unsigned}. Sign it"):
        create_resources(settings)
    with pytest.raises(Trouble, match=f"agreement with {unsigned}"):
        await CHECKS["profile"](settings)


@pytest.mark.usefixtures("_no_environment")
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("SMTP_URL", {"smtp_url": "smtp://user:pw@mail.acme.test"}),
        ("REGIONS__US__SMTP_URL", {"regions": {"us": US | {"smtp_url": "smtp://user:pw@us.acme.test"}}}),
        ("REGIONS__US__STORAGE_ENDPOINT", {"regions": {"us": US | {"storage_endpoint": "http://us.acme.test"}}}),
        ("OTLP_ENDPOINT", {"otlp_endpoint": "http://collector.acme.test:4318"}),
        ("SCANNER_URL", {"scanner_url": "tcp://clamd.acme.test:3310"}),
        ("DATABASE_URL", {"database_url": "postgresql://ballast_app:pw@db.acme.test/ballast?sslmode=require"}),
        ("REDIS_URL", {"redis_url": "redis://:pw@redis.acme.test/0"}),
        ("BASE_URL", {"base_url": "http://app.acme.test"}),
        ("STORAGE_ENDPOINT", {"storage_url": "s3://files", "storage_endpoint": "http://s3.acme.test"} | KEYS),
        ("OIDC_ISSUER", {"oidc_issuer": "http://id.acme.test", "oidc_client_secret": SECRET}),
        ("RATES_API_BASE", {"rates_api_base": "http://rates.acme.test"}),
        ("GITHUB_API_BASE", {"github_api_base": "http://api.github.com"}),
        ("PLAUSIBLE_API_BASE", {"plausible_api_base": "http://plausible.io"}),
    ],
)
def test_every_way_without_tls_is_refused_by_name(name: str, more: dict[str, object]) -> None:
    of(HIPAA)
    with pytest.raises(InsecureSettings, match=rf"\n  {name}: "):
        of(HIPAA | more)
