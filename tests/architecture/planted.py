"""A fresh thing of each kind that an address can name, for tests that ask every route there is."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from service.core import clock
from service.core.crypto import conceal, keyring
from service.core.ids import new_id
from service.features.files.flows.links import make_link
from service.features.organizations.models import hash_token, make_token
from service.guardrails.permissions import Role
from service.integrations.storage import Storage
from service.web.mail import STOPS
from tests.architecture.conftest import Route
from tests.support.factories import Factory, Person

READ_AT = datetime(2025, 12, 1, tzinfo=UTC)
NOBODY = "role.matrix"
"""A job that no worker knows."""


Owner = Person | None
Plant = Callable[[Factory, UUID, Owner], Awaitable[str]]


async def live_indicator(factory: Factory, organization: UUID, _: Owner) -> str:
    indicator = await factory.indicator(organization)
    await factory.superuser.execute(
        "INSERT INTO readings (organization_id, indicator_id, at, value) VALUES ($1, $2, $3, 1)",
        organization, indicator, READ_AT,
    )  # fmt: skip
    return str(indicator)


async def deleted_indicator(factory: Factory, organization: UUID, _: Owner) -> str:
    return str(await factory.indicator(organization, deleted_at=clock.now(), deletion_id=new_id()))


async def own_organization(_: Factory, organization: UUID, __: Owner) -> str:
    return str(organization)


async def deleted_organization(factory: Factory, organization: UUID, person: Owner) -> str:
    """Another one, where the people inside have the same role; to those outside it is as foreign as the first."""
    other = await factory.organization()
    await factory.superuser.execute(
        "UPDATE organizations SET deleted_at = $2, deletion_id = $3 WHERE id = $1", other, clock.now(), new_id()
    )
    if person is not None and person.role is not None and person.organization_id == organization:
        await factory.superuser.execute(
            "INSERT INTO memberships (id, organization_id, user_id, role, created_at) VALUES ($1, $2, $3, $4, $5)",
            new_id(), other, person.id, person.role.label, clock.now(),
        )  # fmt: skip
    return str(other)


async def another_member(factory: Factory, organization: UUID, _: Owner) -> str:
    target = await factory.person(Role.VIEWER, organization)
    return str(await factory.superuser.fetchval("SELECT id FROM memberships WHERE user_id = $1", target.id))


async def ended_grant(factory: Factory, _: UUID, __: Owner) -> str:
    """Emergency rights that somebody had and nobody has reviewed."""
    identifier, somebody = new_id(), await factory.person()
    await factory.superuser.execute(
        "INSERT INTO break_glass_grants (id, user_id, reason, opened_at, ends_at, closed_at, code_hash)"
        " VALUES ($1, $2, 'They asked for it.', now(), now(), now(), '')",
        identifier, somebody.id,
    )  # fmt: skip
    return str(identifier)


async def another_person(factory: Factory, organization: UUID, _: Owner) -> str:
    return str((await factory.person(Role.VIEWER, organization)).id)


async def open_invitation(factory: Factory, organization: UUID, _: Owner) -> str:
    identifier = new_id()
    return str(await invite(factory, organization, identifier, f"i{identifier.hex[-10:]}@example.com"))


async def token_of_mine(factory: Factory, organization: UUID, person: Owner) -> str:
    """The link of an invitation to yet another organization; a stranger's copy was meant for somebody else."""
    mine = person is not None and not (person.role and person.organization_id != organization)
    identifier = new_id()
    email = person.email if person and mine else f"i{identifier.hex[-10:]}@example.com"
    await invite(factory, await factory.organization(), identifier, email)
    return make_token(identifier, 1)


async def invite(factory: Factory, organization: UUID, identifier: UUID, email: str) -> UUID:
    now, hashed = clock.now(), hash_token(make_token(identifier, 1))
    await factory.superuser.execute(
        "INSERT INTO invitations (id, organization_id, email, role, sendings, token_hash, created_at, expires_at)"
        " VALUES ($1, $2, $3, 'viewer', 1, $4, $5, $6)",
        identifier, organization, email, hashed, now, now + timedelta(days=7),
    )  # fmt: skip
    return identifier


async def connected_login(factory: Factory, organization: UUID, person: Owner) -> str:
    """One's own, except the stranger's, which is somebody else's."""
    outside = person is None or (person.role and person.organization_id != organization)
    owner = await factory.person() if outside or person is None else person
    identifier = new_id()
    await factory.superuser.execute(
        "INSERT INTO external_identities (id, user_id, issuer, subject, created_at)"
        " VALUES ($1, $2, 'https://id.example', $3, $4)",
        identifier, owner.id, identifier.hex, clock.now(),
    )  # fmt: skip
    return str(identifier)


async def dead_letter(factory: Factory, _: UUID, __: Owner) -> str:
    found = await factory.superuser.fetchval(
        "INSERT INTO pgqueuer (priority, status, entrypoint, payload, heartbeat, created, updated, attempts, headers)"
        f" VALUES (0, 'failed', '{NOBODY}', '{{}}', now(), now(), now(), 3, '{{\"error\": \"Planted\"}}') RETURNING id"
    )
    return str(found)


async def billing_customer(factory: Factory, organization: UUID, _: Owner) -> str:
    """Of an organization of its own: there is one living customer to each."""
    identifier = new_id()
    await factory.superuser.execute(
        "INSERT INTO billing_customers (id, organization_id, stripe_customer_id, livemode, created_at)"
        " VALUES ($1, $2, $3, false, now())",
        identifier, await factory.organization(), f"cus_{identifier.hex}",
    )  # fmt: skip
    return str(identifier)


async def billing_operation(factory: Factory, organization: UUID, _: Owner) -> str:
    """One that failed: nobody takes it up, and its page says so."""
    identifier = new_id()
    await factory.superuser.execute(
        "INSERT INTO billing_operations (id, organization_id, kind, intent, wish, idempotency_key, status, error_code,"
        " actor, created_at, next_attempt_at, settled_at)"
        " VALUES ($1, $2, 'checkout', $3, '{}', $3, 'failed', 'deadline', 'test', now(), now(), now())",
        identifier, organization, identifier.hex,
    )  # fmt: skip
    return str(identifier)


async def inbox_message(factory: Factory, _: UUID, __: Owner) -> str:
    """Of a customer that nobody knows, and that nobody looks for while the tests run."""
    name = new_id().hex
    found = await factory.superuser.fetchval(
        "INSERT INTO inbox (source, realm, external_id, type, subject, facts, state, reason, attempts, next_attempt_at,"
        " received_at) VALUES ('stripe', 'test', $1, 'invoice.paid', $2, '{}', 'unmatched', '', 1,"
        " now() + interval '1 day', now()) RETURNING id",
        f"evt_{name}", f"cus_{name}",
    )  # fmt: skip
    return str(found)


async def notification(factory: Factory, organization: UUID, person: Owner) -> str:
    """One's own, except the stranger's, which is somebody else's."""
    outside = person is None or person.organization_id != organization
    reader = await factory.person(Role.VIEWER, organization) if outside or person is None else person
    identifier = new_id()
    await factory.superuser.execute(
        "INSERT INTO notifications (id, organization_id, user_id, kind, text, href, key, created_at)"
        " VALUES ($1, $2, $3, 'role_changed', 'News', '/members', $4, now())",
        identifier, organization, reader.id, identifier.hex,
    )  # fmt: skip
    return str(identifier)


async def api_key(factory: Factory, organization: UUID, _: Owner) -> str:
    await factory.key(organization, id=(identifier := new_id()))
    return str(identifier)


async def paused_source(factory: Factory, organization: UUID, _: Owner) -> str:
    return str(await factory.source(organization))


async def deleted_source(factory: Factory, organization: UUID, _: Owner) -> str:
    return str(await factory.source(organization, deleted_at=clock.now(), deletion_id=new_id()))


async def webhook_endpoint(factory: Factory, organization: UUID, _: Owner, **columns: Any) -> str:
    """At an address that nobody is sent to; what waits for it waits until the run is over."""
    identifier = new_id()
    sealed = keyring().encrypt(b"whsec_" + b64encode(bytes(32)), f"webhook_endpoints:secret:{identifier}")
    values = {
        "id": identifier, "organization_id": organization, "url": "https://192.0.2.1/", "description": "",
        "event_types": ["plan.changed"], "ordered": False, "state": "paused", "reason": "", "secret": sealed,
        "created_at": clock.now(), "failures": 0, **columns,
    }  # fmt: skip
    marks = ", ".join(f"${n + 1}" for n in range(len(values)))
    await factory.superuser.execute(
        f"INSERT INTO webhook_endpoints ({', '.join(values)}) VALUES ({marks})", *values.values()
    )
    return str(identifier)


async def deleted_endpoint(factory: Factory, organization: UUID, person: Owner) -> str:
    return await webhook_endpoint(factory, organization, person, deleted_at=clock.now(), deletion_id=new_id())


async def webhook_delivery(factory: Factory, organization: UUID, person: Owner) -> str:
    endpoint = await webhook_endpoint(factory, organization, person)
    found = await factory.superuser.fetchval(
        "INSERT INTO webhook_deliveries (organization_id, endpoint_id, event_id, type, payload, state, created_at,"
        " next_attempt_at) VALUES ($1, $2, $3, 'plan.changed', '{}', 'waiting', now(), now()) RETURNING id",
        organization, UUID(endpoint), new_id(),
    )  # fmt: skip
    return str(found)


async def ended_import(factory: Factory, organization: UUID, _: Owner) -> str:
    identifier = new_id()
    await factory.superuser.execute(
        "INSERT INTO imports (id, organization_id, created_at, name, mode, zone, decimal, state, refused, finished_at)"
        " VALUES ($1, $2, now(), $3, 'good', 'UTC', 'point', 'done', 1, now())",
        identifier, organization, f"{identifier.hex}.csv",
    )  # fmt: skip
    await factory.superuser.execute(
        "INSERT INTO import_verdicts (organization_id, import_id, number, refused, report) VALUES ($1, $2, 2, 1, $3)",
        organization, identifier, '2,refused,"A sentence."\r\n',
    )  # fmt: skip
    return str(identifier)


async def suppression(factory: Factory, _: UUID, __: Owner) -> str:
    """Of an address that nobody else has."""
    identifier = new_id()
    await factory.superuser.execute(
        "INSERT INTO mail_suppressions (id, address_hash, email, cause, code, seen_at)"
        " VALUES ($1, $2, $3, 'bounce', '5.1.1', now())",
        identifier, identifier.bytes, f"s{identifier.hex[-10:]}@example.com",
    )  # fmt: skip
    return str(identifier)


async def restriction(factory: Factory, _: UUID, __: Owner) -> str:
    """Of somebody who belongs nowhere."""
    identifier, person = new_id(), await factory.person()
    await factory.superuser.execute(
        "INSERT INTO processing_limits (id, user_id, purpose, reason, placed_at) VALUES ($1, $2, '*', '', now())",
        identifier, person.id,
    )  # fmt: skip
    return str(identifier)


async def erasure_request(factory: Factory, _: UUID, __: Owner) -> str:
    """Of somebody who is gone already: whoever answers it erases nobody."""
    identifier = new_id()
    await factory.superuser.execute(
        "INSERT INTO erasure_requests (id, user_id, state, source, reason, requested_at)"
        " VALUES ($1, $2, 'requested', 'staff', 'A letter', now())",
        identifier, new_id(),
    )  # fmt: skip
    return str(identifier)


async def signed_wish(_: Factory, __: UUID, ___: Owner) -> str:
    """The link in a mail to somebody who is gone: it stops nothing, and nobody is told so."""
    return conceal(STOPS, f"role_changed {new_id()}".encode())


async def clean_file(factory: Factory, organization: UUID, _: Owner) -> str:
    return str(await factory.file(organization))


async def download(factory: Factory, organization: UUID, _: Owner) -> str:
    """Of one byte that the store has."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"x"

    key = f"eu:t/{organization.hex}/{new_id().hex}"
    await factory.resources.get(Storage).put(key, parts())
    return make_link(factory.resources, key, "file.txt", 1).url.rpartition("/")[2]


async def copy_of_data(factory: Factory, organization: UUID, person: Owner) -> str:
    """One's own, of one byte that the store has; the stranger's is somebody else's."""
    outside = person is None or (person.role and person.organization_id != organization)
    owner = await factory.person() if outside or person is None else person

    async def parts() -> AsyncIterator[bytes]:
        yield b"x"

    identifier, now = new_id(), clock.now()
    key = f"eu:exports/{identifier}/{new_id().hex}"
    await factory.resources.get(Storage).put(key, parts())
    await factory.superuser.execute(
        "INSERT INTO data_exports (id, user_id, scope, state, asked_at, done, parts, rows, size, key, missing, remark,"
        " ready_at, expires_at, attempts) VALUES ($1, $2, 'person', 'ready', $3, 1, 1, 1, 1, $4, '{}', '', $3,"
        " $5, 1)",
        identifier, owner.id, now, key, now + timedelta(days=1),
    )  # fmt: skip
    return str(identifier)


async def deleted_file(factory: Factory, organization: UUID, _: Owner) -> str:
    return str(await factory.file(organization, deleted_at=clock.now(), deletion_id=new_id()))


THINGS: dict[str, Plant] = {
    "file_id": clean_file,
    "export_id": copy_of_data,
    "link": download,
    "key_id": api_key,
    "import_id": ended_import,
    "indicator_id": live_indicator,
    "membership_id": another_member,
    "person_id": another_person,
    "grant_id": ended_grant,
    "invitation_id": open_invitation,
    "organization_id": own_organization,
    "identity_id": connected_login,
    "token": token_of_mine,
    "customer_id": billing_customer,
    "message_id": inbox_message,
    "operation_id": billing_operation,
    "notification_id": notification,
    "suppression_id": suppression,
    "limit_id": restriction,
    "request_id": erasure_request,
    "wish": signed_wish,
    "source_id": paused_source,
    "endpoint_id": webhook_endpoint,
    "delivery_id": webhook_delivery,
}
IN_THE_BIN: dict[str, Plant] = {
    "file_id": deleted_file,
    "indicator_id": deleted_indicator,
    "organization_id": deleted_organization,
    "source_id": deleted_source,
    "endpoint_id": deleted_endpoint,
}
WORDS = {
    "at": READ_AT.isoformat().replace("+00:00", "Z"),
    "form": "csv",
    "switch": "stop_mail",
    "kind": "role_changed",
    "system": "rates",
    "purpose": "product_news",
    "code": "not-found",
}


async def address(route: Route, factory: Factory, organization: UUID, person: Owner) -> str:
    """The route's path with a fresh thing of each kind, so that nobody finds what the one before took away."""
    path = route.path
    in_the_bin = path.endswith(("/restore", "/restoration", "/discard"))
    for name in re.findall(r"{([a-z_]+)(?::[a-z]+)?}", route.path):
        plant = (THINGS | IN_THE_BIN if in_the_bin else THINGS).get(name)
        value = await plant(factory, organization, person) if plant else WORDS.get(name, uuid4().hex)
        path = re.sub(rf"{{{name}(:[a-z]+)?}}", value, path)
    if path.endswith("/aggregates"):
        path += "?since=2026-01-01T00:00:00Z&until=2026-01-02T00:00:00Z"
    return path
