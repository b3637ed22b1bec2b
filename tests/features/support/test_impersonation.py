"""A visit of support over HTTP: it looks as the customer, touches next to nothing, and everybody sees it."""

from __future__ import annotations

from uuid import uuid4

from service.guardrails import sessions
from tests.features.support.conftest import REASON, Case, text_of

PUBLIC = (
    "/pricing", "/nothing-is-here", "/developers", "/login", "/sign-up", "/forgot", "/privacy/notice", "/problems",
    "/verify/nothing", f"/indicators/{uuid4()}/nothing",
)  # fmt: skip


async def test_a_visit_from_the_form_to_the_way_back(case: Case) -> None:
    assert case.owner.organization_id is not None
    await case.factory.indicator(case.owner.organization_id, "Signups of the customer")
    own = case.browser.http.cookies["sid"]
    assert case.path in await case.browser.page(f"/staff/people/{case.owner.id}")
    assert case.name not in await case.browser.page(case.path), "nobody reads a name without a reason"
    why = {"next": f"/staff/people/{case.owner.id}", "reason": REASON}
    assert (await case.press(case.browser, "/staff/reasons", page="/staff", **why)).status_code == 303
    form = await case.browser.page(case.path)
    assert case.name in form
    assert "Organization" in form

    entered = await case.enter()
    assert (entered.status_code, entered.headers["location"]) == (303, "/dashboard")
    inside = case.browser.http.cookies["sid"]
    assert inside != own
    for path in ("/dashboard", "/members", "/organization", "/audit-log", "/account", f"/indicators/{uuid4()}"):
        page = text_of((await case.browser.get(path)).text)
        assert f"you are in the account of {case.name}" in page, path
    shown = await case.browser.page("/indicators")
    assert "Signups of the customer" in shown, "as the person, in their organization"
    assert f"you are in the account of {case.name}" in text_of(shown)
    assert REASON in text_of(shown)
    assert "Log out" not in shown, "there is one way out, and it says what it does"
    for path in PUBLIC:
        public = text_of((await case.browser.get(path)).text)
        assert "You are in a customer's account" in public, f"{path}: also where nobody is asked for a login"

    left = await case.press(case.browser, "/impersonation/stop")
    assert (left.status_code, left.headers["location"]) == (303, "/staff")
    back = case.browser.http.cookies["sid"]
    assert back not in (own, inside), "a new id, both ways"
    page = text_of(await case.browser.page("/staff"))
    assert "are yourself again" in page
    assert "in the account of" not in page
    assert "You are in a customer's account" not in text_of(await case.browser.page("/pricing"))
    case.browser.http.cookies.set("sid", inside, domain=case.browser.http.base_url.host)
    assert (await case.browser.get("/dashboard")).headers["location"].startswith("/login"), "it opens nothing any more"

    row = await case.visit()
    assert (row["person_id"], row["staff_id"], row["reason"]) == (case.owner.id, case.staff.id, REASON)
    assert row["ended_at"] is not None
    log = text_of(await case.customer.page("/audit-log"))
    assert f"Our support, for {case.name} began a visit" in log
    assert f"Our support, for {case.name} ended a visit" in log
    assert REASON in log
    for action in ("support.begin", "support.stop", "audit_log.read"):
        first = (await case.rows(action))[0]
        assert (first["actor_kind"], first["actor_id"]) == ("staff", case.staff.id), action
        assert first["on_behalf_of"] == case.owner.id, action
    [entry] = (await case.customer.api("GET", "/audit_log?action=support.begin")).json()["items"]
    assert (entry["actor_id"], entry["on_behalf_of"]) == (str(case.staff.id), str(case.owner.id))
    access = text_of(await case.customer.page("/organization/support"))
    assert REASON in access
    assert case.name in access


FORBIDDEN = [
    ("POST", "/account/password", "accounts.change_password"),
    ("POST", "/account/name", "accounts.change_name"),
    ("POST", "/account/email", "accounts.request_new_email"),
    ("POST", "/account/totp", "accounts.offer_totp"),
    ("GET", "/account/totp", "accounts.get_totp_offer"),
    ("GET", "/account/sessions", "accounts.list_devices"),
    ("POST", "/account/sessions/end-others", "accounts.end_other_sessions"),
    ("POST", "/account/recovery-codes", "accounts.renew_recovery_codes"),
    ("POST", "/logout", "accounts.log_out"),
    ("POST", "/confirm", "accounts.confirm_identity"),
    ("POST", "/account/deletion", "accounts.delete"),
    ("POST", "/organization", "organizations.rename"),
    ("POST", "/organization/deletion", "organizations.delete"),
    ("POST", "/organization/departure", "organizations.leave"),
    ("POST", "/organization/support/opening", "support.allow"),
    ("POST", "/members/invitations", "organizations.invite"),
    ("GET", "/organizations", "organizations.list"),
    ("GET", "/audit-log/export/csv", "audit_log.export"),
    ("GET", "/billing/invoices", "billing.list_invoices"),
    ("GET", "/staff", "staff.enter"),
    ("POST", "/staff/dead-letters/jobs/replay", "staff.enter"),
]
FIELDS = {
    "/account/password": {"current": "correct horse battery staple", "password": "another very long one 1"},
    "/account/name": {"name": "Mallory"},
    "/account/email": {"email": "mallory@example.com"},
    "/confirm": {"proof": "correct horse battery staple"},
    "/account/deletion": {"email": "x@example.com"},
    "/organization": {"name": "Mine"},
    "/organization/deletion": {"name": "Mine"},
    "/members/invitations": {"email": "mallory@example.com", "role": "owner"},
}


async def test_what_support_may_not_do_is_refused_said_and_recorded(case: Case) -> None:
    before = await case.superuser.fetchrow("SELECT * FROM users WHERE id = $1", case.owner.id)
    await case.enter()
    for method, path, action in FORBIDDEN:
        if method == "GET":
            answer = await case.browser.get(path)
        else:
            answer = await case.press(case.browser, path, **FIELDS.get(path, {}))
        assert answer.status_code == 403, f"{method} {path}: {answer.status_code} {answer.headers.get('location')}"
        said = text_of(answer.text)
        assert "Not while you are in somebody's account" in said, path
        assert "press Stop" in said, path
        assert f"you are in the account of {case.name}" in said, path
        [row, *_] = await case.rows(action)
        assert (row["outcome"], row["actor_kind"], row["actor_id"]) == ("denied", "staff", case.staff.id), path
        assert row["on_behalf_of"] == case.owner.id, path
    made = await case.press(case.browser, "/api-keys/new", name="Back door", role="owner", expires="never")
    assert made.status_code in (403, 404, 422)
    assert await case.superuser.fetchrow("SELECT * FROM users WHERE id = $1", case.owner.id) == before
    assert "tried to change" in text_of(await case.customer.page("/audit-log"))


async def test_what_is_harmless_may_be_done_and_is_recorded_as_ours(case: Case) -> None:
    assert case.owner.organization_id is not None
    source = await case.factory.source(case.owner.organization_id)
    await case.enter()
    answer = await case.press(case.browser, f"/sources/{source}/pull", page=f"/sources/{source}")
    assert answer.status_code != 403
    assert [one["outcome"] for one in await case.rows("sources.pull_now")] != ["denied"]


async def test_a_visit_is_among_the_devices_of_the_staff_and_not_of_the_person(case: Case) -> None:
    await case.enter()
    assert "Support, in somebody" not in await case.customer.page("/account/sessions")
    token, login = await case.factory.log_in(case.staff)
    assert token
    devices = await sessions.devices(case.factory.resources, login)
    assert any(one.label == "Support, in somebody's account" for one in devices)
    assert all(one.key for one in devices)
