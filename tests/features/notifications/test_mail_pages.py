"""Mail from its receiver's side: stopping it without a login, seeing why it does not come, and mending that."""

from __future__ import annotations

import base64
import re
import time
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest

from infra.sandbox.sendgrid import SendGridKnobs
from service.core import clock
from service.core.context import Actor, ActorKind
from service.core.crypto import sign
from service.core.errors import ReadOnly
from service.core.ids import new_id
from service.features.notifications import actions
from service.features.notifications.flows.events import MOST_ATTEMPTS, work_off
from service.features.notifications.flows.tell import mail_news
from service.features.notifications.jobs import prove_that_mail_arrives
from service.features.notifications.models import MEMBER_JOINED
from service.guardrails import switches
from service.guardrails.jobs import Event
from service.guardrails.permissions import Role
from service.guardrails.switches import Switch
from service.integrations.mail import MailFailed
from service.web.mail import STOPPED, unsubscribe_link
from tests.features.notifications.office import Office
from tests.support.factories import Person

pytest_plugins = ("tests.guardrails.durability", "tests.features.notifications.post_office")


async def mailed_news(office: Office, owner: Person) -> str:
    """Tell an owner something that comes by mail, and send it; the link that stops it, as the mail carries it."""
    news = new_id()
    await office.superuser.execute(
        "INSERT INTO notifications (id, organization_id, user_id, kind, text, href, key, created_at)"
        " VALUES ($1, $2, $3, $4, E'https://evil.example/a\\nhas joined.', '/members', $5, now())",
        news, owner.organization_id, owner.id, MEMBER_JOINED.name, news.hex,
    )  # fmt: skip
    async with office.acting(owner.organization_id) as ctx:
        await mail_news(ctx, news)
    mails = office.sendgrid.inbox.to(owner.email)
    return dict(mails[0].headers)["List-Unsubscribe"].strip("<>") if mails else ""


async def test_one_click_stops_one_kind_for_one_person(office: Office) -> None:
    """What a mailbox sends (RFC 8058): no cookie, no token of ours, from anywhere."""
    owner = await office.factory.person(Role.OWNER)
    link = await mailed_news(office, owner)
    (mail,) = office.sendgrid.inbox.to(owner.email)
    assert dict(mail.headers)["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert link in mail.text
    assert link in mail.html
    assert re.search(r"^Organization \w+: https: evil.example/a has joined.$", mail.text, re.MULTILINE)
    assert "//evil.example" not in mail.subject + mail.text + mail.html, "no link but ours, whatever people are called"
    async with httpx.AsyncClient(verify=False) as mailbox:
        looked = await mailbox.get(link)
        assert "Somebody joins the organization" in looked.text
        await mailed_news(office, owner)
        assert len(office.got(owner.email)) == 2, "looking at a link stops nothing: scanners follow them all"
        for _ in range(2):
            clicked = await mailbox.post(link, data={"List-Unsubscribe": "One-Click"})
            assert clicked.status_code == 200, clicked.text
    await mailed_news(office, owner)
    assert len(office.got(owner.email)) == 2
    async with await office.factory.client(owner) as client:
        choices = await client.page("/account/notifications")
    assert re.search(r'id="member_joined-channel".*?value="app" selected', choices, re.DOTALL), (
        "still told in the product"
    )


async def test_a_stranger_who_was_invited_stops_news_to_the_address(office: Office) -> None:
    address = f"invited-{new_id().hex[-8:]}@example.com"
    await office.send(address, "notifications/mail/news")
    link = dict(office.sendgrid.inbox.to(address)[0].headers)["List-Unsubscribe"].strip("<>")
    async with httpx.AsyncClient(verify=False) as mailbox:
        assert (await mailbox.post(link)).status_code == 200
        assert (await mailbox.post(link[:-4] + "aaaa")).status_code == 400
        assert (await mailbox.get(link[:-4] + "aaaa")).status_code == 400
    assert await office.causes(address) == {"unsubscribed"}
    carried = base64.urlsafe_b64decode(link.rpartition("/")[2] + "==")
    assert b"example.com" not in carried, "histories and logs of proxies keep addresses of pages"
    assert address.encode() not in carried


async def test_a_link_from_before_they_were_sealed_still_stops_mail(office: Office) -> None:
    """It lies in a mailbox for years: one click, and the page with the button."""
    address = f"kept-{new_id().hex[-8:]}@example.com"
    old = f"{office.url}/unsubscribe/{sign(STOPPED, f'address {address}'.encode())}"
    async with httpx.AsyncClient(verify=False) as mailbox:
        assert "News from us" in (await mailbox.get(old)).text
        assert await office.causes(address) == set()
        clicked = await mailbox.post(old, data={"List-Unsubscribe": "One-Click"})
        assert clicked.status_code == 200, clicked.text
    assert await office.causes(address) == {"unsubscribed"}


async def test_one_click_works_while_changes_are_paused(office: Office) -> None:
    """A mailbox clicks once, shows that it worked, and never asks again."""
    address = f"paused-{new_id().hex[-8:]}@example.com"
    async with office.acting() as ctx:
        link = unsubscribe_link(ctx, "address", address).rpartition("/")[2]
        switches._known[ctx.resources] = (time.monotonic(), {Switch.READ_ONLY: "We move."})
        try:
            with pytest.raises(ReadOnly):
                await actions.write_again(replace(ctx, actor=Actor(ActorKind.USER, new_id())))
            await actions.unsubscribe(ctx, link)
        finally:
            del switches._known[ctx.resources]
    assert await office.causes(address) == {"unsubscribed"}


async def test_a_person_sees_why_no_mail_comes_and_mends_it(office: Office, reader: Person) -> None:
    office.sendgrid.knobs = SendGridKnobs(bounce=True)
    office.sendgrid.webhook_url = f"{office.url}/webhooks/sendgrid"
    await office.heard_by_itself(await office.send(reader.email), "bounced")
    async with await office.factory.client(reader) as client:
        assert "Our mail does not reach you" in await client.page("/account")
        assert "Mail to your address came back (5.1.1)" in await client.page("/account/notifications")
        asked = await client.submit("/account/notifications/mail/again", page="/account/notifications")
        assert asked.status_code == 303
        assert "does not reach you" not in await client.page("/account")
        again = await client.submit("/account/notifications/mail/again", page="/account/notifications")
        assert again.status_code == 303
        assert "Nothing holds our mail back" in await client.page("/account/notifications")
    lifted = await office.superuser.fetchval("SELECT id FROM mail_suppressions WHERE email = $1", reader.email)
    event = Event("notifications.write_again", "", None, {"suppressions": [str(lifted)]})
    async with office.acting() as ctx:
        office.sendgrid.knobs = SendGridKnobs(outage=True)
        with pytest.raises(MailFailed):
            await prove_that_mail_arrives(ctx, event)
        office.sendgrid.knobs = SendGridKnobs()
        await prove_that_mail_arrives(ctx, event)
    assert office.got(reader.email) == ["Our mail reaches you again"]
    assert office.sendgrid.spared == {}, "the provider's own list would have held it back"
    late = office.event(reader.email, "bounce", type="bounce", timestamp=1_700_000_000)
    await office.hear(late)
    assert await office.causes(reader.email) == set(), "an old bounce that comes late is older than the mending"


async def test_staff_finds_an_address_and_lifts_it_for_a_reason(office: Office, reader: Person) -> None:
    await office.hear(office.event(reader.email, "spamreport"))
    staff = await office.factory.person(staff=True)
    async with await office.factory.client(staff, "password", "totp") as client:
        barred = await client.page(f"/staff/mail?q={reader.email.upper()}")
        assert "Say why first" in barred
        assert "<table" not in barred, "whether mail reaches somebody is theirs, too"
        why = "/staff/reasons?next=/staff/mail"
        await client.submit("/staff/reasons", page=why, next="/staff/mail", reason="They asked on the phone")
        found = await client.page(f"/staff/mail?q={reader.email.upper()}")
        assert reader.email in found
        assert "Nothing is held back" in await client.page("/staff/mail?q=nobody@example.com")
        (act,) = re.findall(r'href="(/staff/mail/[0-9a-f-]{36}/lift)"', found)
        assert (await client.submit(act, reason="")).status_code == 422
        lifted = await client.submit(act, reason="They asked on the phone")
        assert lifted.status_code == 303, lifted.text
        assert (await client.submit(act, reason="Once more, please")).status_code == 422
    assert await office.causes(reader.email) == set()
    [row] = await office.superuser.fetch(
        "SELECT reason, facts, changes FROM audit_log"
        " WHERE action = 'notifications.lift_suppression' AND outcome = 'done'"
    )
    assert row["reason"] == "They asked on the phone"
    assert reader.email not in str(dict(row))


async def test_what_nobody_understood_is_tried_again_or_discarded(office: Office, reader: Person) -> None:
    """An event without its time: five attempts, and it waits for a person, who has it tried anew or left alone."""
    event = office.event(reader.email, "bounce")
    del event["timestamp"]
    await office.hear(event)
    known = "SELECT * FROM inbox WHERE external_id = $1"
    for _ in range(MOST_ATTEMPTS):
        clock.advance(timedelta(minutes=2))
        await office.superuser.execute(
            "UPDATE inbox SET next_attempt_at = now() WHERE external_id = $1", event["sg_event_id"]
        )
        await work_off(office.resources)
    row = await office.superuser.fetchrow(known, event["sg_event_id"])
    assert row is not None
    assert (row["state"], row["attempts"]) == ("dead", MOST_ATTEMPTS)
    clock.reset()
    letters = "/staff/dead-letters/mail-events"
    one = f"{letters}?q={row['id']}"
    staff = await office.factory.person(staff=True)
    async with await office.factory.client(staff, "password", "totp") as client:
        assert "/staff/dead-letters/mail-events" in await client.page("/staff/dead-letters")
        page = await client.page(one)
        assert "KeyError" in page
        assert reader.email not in page, "whom it is about stands in the body, which is not shown"
        which = {"q": str(row["id"])}
        press = f"{letters}/replay"
        again = await client.submit(press, page=press, reason="Understood since today", **which)
        assert again.status_code == 303, again.text
        row = await office.superuser.fetchrow(known, event["sg_event_id"])
        assert row is not None
        assert (row["state"], row["attempts"], row["last_error"]) == ("pending", 0, None)
        await office.superuser.execute("UPDATE inbox SET state = 'dead' WHERE id = $1", row["id"])
        press = f"{letters}/discard"
        assert (await client.submit(press, page=press, reason="A test of theirs", **which)).status_code == 303
        assert await office.superuser.fetchval("SELECT state FROM inbox WHERE id = $1", row["id"]) == "ignored"
    reasons = await office.superuser.fetch(
        "SELECT reason FROM audit_log WHERE actor_id = $1 AND action LIKE 'notifications.%_events' ORDER BY id",
        staff.id,
    )
    assert [each["reason"] for each in reasons] == ["Understood since today", "A test of theirs"]
