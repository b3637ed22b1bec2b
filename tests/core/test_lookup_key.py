"""Another SECRET_KEY ends sessions and links; what is found by for years hangs on LOOKUP_KEY, which nobody changes."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from pydantic import SecretStr

from service.core import clock, crypto
from service.core.crypto import LASTING, BadSignature, conceal, keyed_hash, sign, unsign
from service.core.settings import Settings
from service.features.accounts.models.credentials import hash_recovery_code
from service.features.organizations.models import hash_token
from service.guardrails import mailing
from service.guardrails.mailing import Cause
from service.guardrails.permissions import Role
from service.guardrails.subjects import address_hash
from service.web.mail import STOPPED, STOPS, unsubscribed
from tests.support.factories import Factory

ROOT = Path(__file__).resolve().parents[2]
KEYED = ("keyed_hash", "sign", "unsign", "conceal", "reveal")
PASSING = {
    "accounts.one-time-token", "accounts.one-time-token.state",  # an hour or a day; asked for again
    "audit.session",  # tells the sessions of the log apart; none goes on
    "csrf", "session", "web.flash", "staff-reason", "visit",  # with the session
    "cursor", "download",  # a page, a minute
    "held {purpose}",  # ten minutes in the middle of a log-in
    "known-device",  # that browser is asked what a new one is asked
    "organizations.invitation", "organizations.invitation.link",  # whoever has the key could make one: they must end
    "rate-limit",  # counters begin anew
}  # fmt: skip
"""What ends with SECRET_KEY, and why nobody minds."""


@pytest.fixture
def with_roots(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[Callable[..., None]]:
    """The whole process, its server too, with other secrets."""

    def change(**secrets: str) -> None:
        changed = settings.model_copy(update={name: SecretStr(value) for name, value in secrets.items()})
        monkeypatch.setattr(crypto, "get_settings", lambda: changed)
        crypto.purpose_key.cache_clear()

    yield change
    monkeypatch.undo()
    crypto.purpose_key.cache_clear()


async def test_another_secret_key_ends_sessions_and_forgets_nobody(
    factory: Factory, with_roots: Callable[..., None]
) -> None:
    with_roots(lookup_key="the look-up key of this installation")
    owner = await factory.person(Role.OWNER)
    code, link = "abcde-fghjk-mnpqr-stuvw-xyz23", conceal(STOPS, b"address a@b.test")
    older = sign(STOPPED, b"address a@b.test")
    resources, lasting = factory.resources, (address_hash(owner.email), hash_recovery_code(code))
    invitation = hash_token("sent last week")
    async with await factory.client(owner) as client:
        async with resources.database.unit_of_work(tenant=None) as work:
            await mailing.suppress(work.raw, owner.email, Cause.COMPLAINT, "", clock.now())
        assert (await client.get("/indicators")).status_code == 200
        assert (await client.api("GET", "/indicators")).status_code == 200

        with_roots(lookup_key="the look-up key of this installation", secret_key="another one, after somebody read it")
        assert (await client.get("/indicators")).headers["location"].startswith("/login"), "the session has ended"
        assert hash_token("sent last week") != invitation
        assert (await client.api("GET", "/indicators")).status_code == 200, "programs go on"
        async with resources.database.unit_of_work(tenant=None) as work:
            assert await mailing.causes(work.raw, owner.email) == {Cause.COMPLAINT}
        assert (address_hash(owner.email), hash_recovery_code(code)) == lasting, "the ledger and the way in"
        for each in (link, older):
            assert unsubscribed(each) == ["address", "a@b.test"], "whoever had the mail can still object"


def test_an_installation_from_before_keeps_what_it_knows(with_roots: Callable[..., None]) -> None:
    """Without the setting, and with the SECRET_KEY of then in it: the same hashes."""
    with_roots(lookup_key="", secret_key="what was there first, 32 characters")
    before = {purpose: keyed_hash(purpose, "x") for purpose in LASTING}
    signed = sign("csrf", b"x")
    with_roots(lookup_key="what was there first, 32 characters", secret_key="changed")
    assert before == {purpose: keyed_hash(purpose, "x") for purpose in LASTING}
    with pytest.raises(BadSignature):
        unsign("csrf", signed)


def purposes_in(path: Path) -> Iterator[str]:
    """What a module hashes or signs for; a name is looked up in the module, an f-string comes as it is written."""
    tree, module = ast.parse(path.read_text()), ".".join(path.relative_to(ROOT).with_suffix("").parts)
    imported = {
        each.asname or each.name
        for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "service.core.crypto"
        for each in node.names
    }  # fmt: skip
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called.removeprefix("crypto.") in KEYED and (called in imported or called.startswith("crypto.")):
            match node.args[0]:
                case ast.Constant(value=str(purpose)):
                    yield purpose
                case ast.Name(id=name):
                    yield getattr(import_module(module), name)
                case other:
                    yield ast.unparse(other).removeprefix("f").strip("'")


def test_every_purpose_is_known_to_last_or_to_pass() -> None:
    modules = [path for path in (ROOT / "service").rglob("*.py") if path.name != "crypto.py"]
    found = {purpose for path in modules for purpose in purposes_in(path)}
    assert len(found) >= 18, f"the scan saw only {found}"
    assert not LASTING & PASSING
    assert found == LASTING | PASSING, "say in core.crypto that it lasts, or here why it may end with SECRET_KEY"
